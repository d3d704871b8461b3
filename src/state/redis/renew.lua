-- Moves the end of a lease that ends by itself.
-- KEYS: 1 the pool's leases, 2 the tenant's holders. ARGV: 1 clock ahead, 2 the lease's entry, 3 the holder that it is of an
-- older release, 4 ttl (ms). Returns whether it was still held.
local now = clock(ARGV[1])
for i = 1, 2 do
  local ends = redis.call('ZSCORE', KEYS[i], ARGV[i + 1])
  if ends then
    if tonumber(ends) <= now then
      return 0
    end
    redis.call('ZADD', KEYS[i], string.format('%.0f', now + tonumber(ARGV[4])), ARGV[i + 1])
    return 1
  end
end
return 0
