-- What no caller waits for: that a call served, and that it is over where tokens or a trial hang on it (else count.lua says
-- so). One script for both, so that the server knows either both or none, and their order holds when the source must be
-- sent again.
--
-- KEYS: 1 the pool's hash, 2 the tenant's credential records, 3 the pool's in-flight counts, 4 the pool's windows.
-- ARGV: 1 clock ahead, 2 "served" or "over", 3 lease, 4 member, 5 credential;
--       "over": 6 holder, 7 whether it was a trial ("1"), 8 began, 9 tokens reserved, 10 tokens used, or "-" where that
--       is not known
local lease, member, credential = ARGV[3], ARGV[4], ARGV[5]
if ARGV[2] == 'served' then
  succeed(KEYS[1], KEYS[2], member, credential, lease, clock(ARGV[1]))
  return 1
end
-- Takes the in-flight count down, never below 0, settles reserved tokens, hands a trial without verdict on.
local field = member .. '|' .. ARGV[6]
if redis.call('HEXISTS', KEYS[3], field) == 1 and redis.call('HINCRBY', KEYS[3], field, -1) <= 0 then
  redis.call('HDEL', KEYS[3], field)
end
if ARGV[10] ~= '-' then
  settle(KEYS[4], member, ARGV[8], ARGV[9], ARGV[10])
end
if ARGV[7] == '1' then
  hand_on(KEYS[1], KEYS[2], member, credential, lease)
end
return 1
