-- Ends a lease that ends by itself. Returns whether it was still held.
-- KEYS: 1 the pool's in-flight counts, 2 the tenant's holders, 3 the pool's windows.
-- ARGV: 1 clock ahead, 2 member, 3 holder, 4 began, 5 tokens reserved, 6 tokens used or "-".
local now = clock(ARGV[1])
local ends = redis.call('ZSCORE', KEYS[2], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[3])
local counted = redis.call('HDEL', KEYS[1], ARGV[2] .. '|' .. ARGV[3])
if counted == 0 or not ends or tonumber(ends) <= now then
  return 0
end
if ARGV[6] ~= '-' then
  settle(KEYS[3], ARGV[2], ARGV[4], ARGV[5], ARGV[6])
end
return 1
