-- Writes a failure that no acquire follows.
-- KEYS: 1 the pool's hash, 2 the tenant's credential records. ARGV: 1 state ttl (ms), then the failure's nine.
fail(KEYS[1], KEYS[2], ARGV, 2, now_ms())
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
