-- Writes a failure that no acquire follows.
-- KEYS: 1 the pool's hash, 2 the tenant's credential records, 3 the pool's line where it is a trial that has failed.
-- ARGV: 1 clock ahead, 2 state ttl (ms), then the failure, as `fail` takes it.
fail(KEYS[1], KEYS[2], ARGV, 3, clock(ARGV[1]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
if KEYS[3] then
  tell(KEYS[3])
end
return 1
