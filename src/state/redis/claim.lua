-- Claims the check of a pool's members, which is one replica's at a time.
-- KEYS: 1 the pool's claim. ARGV: 1 ttl (ms). Returns whether it was free.
return redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) and 1 or 0
