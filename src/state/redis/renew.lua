-- Moves the end of a lease that ends by itself.
-- KEYS: 1 the tenant's holders. ARGV: 1 clock ahead, 2 holder, 3 ttl (ms). Returns whether it was still held.
local now = clock(ARGV[1])
local ends = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not ends or tonumber(ends) <= now then
  return 0
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
return 1
