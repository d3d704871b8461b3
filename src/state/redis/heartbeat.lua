-- Says that a replica is alive, so that its in-flight counts go on counting.
-- Returns how many replicas are.
-- KEYS: 1 the tenant's holders. ARGV: 1 clock ahead, 2 replica, 3 replica ttl, 4 state ttl (ms).
-- One that is not known is of a tenant that was deleted: each pick makes its holder known.
local now = clock(ARGV[1])
redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
-- The long dead go, so many at most.
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - KEPT), 'LIMIT', 0, AT_ONCE_ENDED)) do
  redis.call('ZREM', KEYS[1], holder)
end
local replicas = 0
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')) do
  if string.sub(holder, 1, 6) ~= 'lease:' then
    replicas = replicas + 1
  end
end
return replicas
