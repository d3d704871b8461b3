-- Takes an in-flight count down, never below 0, and hands a trial without verdict on.
-- KEYS: 1 the pool's hash, 2 the tenant's credential records, 3 the pool's in-flight counts.
-- ARGV: 1 lease, 2 member, 3 credential, 4 replica, 5 whether it was a trial ("1").
local field = ARGV[2] .. '|' .. ARGV[4]
if redis.call('HEXISTS', KEYS[3], field) == 1 and redis.call('HINCRBY', KEYS[3], field, -1) <= 0 then
  redis.call('HDEL', KEYS[3], field)
end
if ARGV[5] == '1' then
  hand_on(KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[1])
end
return 1
