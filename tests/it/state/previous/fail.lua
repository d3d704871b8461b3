-- Writes a failure that no acquire follows.
-- KEYS: 1 the pool's hash, 2 the tenant's credential records. ARGV: 1 clock ahead, 2 state ttl (ms), then the failure,
-- as `fail` takes it. Returns what `fail` does.
local left = fail(KEYS[1], KEYS[2], ARGV, 3, clock(ARGV[1]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return left
