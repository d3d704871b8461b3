-- Ends a lease that ends by itself, and writes what became of its call. Returns 0 where it was over already, else 1.
-- KEYS: as in acquire.lua, the line only where callers may wait for what is given back. ARGV: 1 clock ahead,
-- 2 state ttl (ms), 3 the holder that it is of an older release, 4 lease, 5 member, 6 record, 7 credential,
-- 8 began, 9 tokens reserved, 10 tokens used or "-", 11 "served", "failed" or "unknown"; "failed": then the failure, as
-- `fail` takes it.
local POOL, CREDENTIALS, COUNTS, HOLDERS, USED, LEASES, _, LINE = unpack(KEYS)
local now = clock(ARGV[1])
local holder, lease, member, record, credential = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local entry = member .. '|' .. lease
local ends = redis.call('ZSCORE', LEASES, entry)
local was_held
if ends then
  redis.call('ZREM', LEASES, entry)
  give_back(COUNTS, member)
  was_held = true
else
  ends = redis.call('ZSCORE', HOLDERS, holder)
  redis.call('ZREM', HOLDERS, holder)
  was_held = redis.call('HDEL', COUNTS, member .. '|' .. holder) > 0
end
if not was_held or not ends or tonumber(ends) <= now then
  return 0
end
if ARGV[10] ~= '-' then
  settle(USED, member, ARGV[8], ARGV[9], ARGV[10])
end
if ARGV[11] == 'failed' then
  fail(POOL, CREDENTIALS, ARGV, 12, now)
  redis.call('PEXPIRE', POOL, ARGV[2])
  redis.call('PEXPIRE', CREDENTIALS, ARGV[2])
elseif ARGV[11] == 'served' then
  succeed(POOL, CREDENTIALS, record, credential, lease, ARGV[8], now)
else
  hand_on(POOL, CREDENTIALS, record, credential, lease)
end
if LINE then
  tell(LINE)
end
return 1
