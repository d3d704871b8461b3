-- What no caller waits for beside counts: that a call served, and that it is over where tokens or a trial hang on it. One
-- script for both, so that the server knows either both or none, and their order holds when the source must be sent again.
--
-- KEYS: 1 the pool's hash, 2 the tenant's credential records, 3 the pool's windows, 4 the pool's line where callers may wait
-- for what it says.
-- ARGV: 1 clock ahead, 2 "served" or "over", 3 lease, 4 record, 5 credential, 6 began;
--       "over": 7 whether it was a trial ("1"), 8 member, 9 tokens reserved, 10 tokens used, or "-" where that is not known
local lease, record, credential = ARGV[3], ARGV[4], ARGV[5]
if ARGV[2] == 'served' then
  succeed(KEYS[1], KEYS[2], record, credential, lease, ARGV[6], clock(ARGV[1]))
  if KEYS[4] then
    tell(KEYS[4])
  end
  return 1
end
-- Settles reserved tokens, and hands a trial without verdict on.
if ARGV[10] ~= '-' then
  settle(KEYS[3], ARGV[8], ARGV[6], ARGV[9], ARGV[10])
end
if ARGV[7] == '1' then
  hand_on(KEYS[1], KEYS[2], record, credential, lease)
end
if KEYS[4] then
  tell(KEYS[4])
end
return 1
