-- Says that a replica is alive, so that its in-flight counts go on counting.
-- KEYS: 1 the tenant's replicas. ARGV: 1 replica, 2 replica ttl, 3 state ttl (ms).
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms() + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
