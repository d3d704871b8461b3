-- Changes what a replica has in flight in a pool, by what has begun and ended since it last said so. Without common.lua,
-- whose definitions would cost more than this does, as often as calls end.
-- KEYS: 1 the pool's in-flight counts, 2 the tenant's holders.
-- ARGV: 1 clock ahead, 2 replica, 3 replica ttl, 4 state ttl (ms), then two a member: key, difference.
local more = false
for i = 5, #ARGV, 2 do
  local field, difference = ARGV[i] .. '|' .. ARGV[2], tonumber(ARGV[i + 1])
  more = more or difference > 0
  if redis.call('HINCRBY', KEYS[1], field, difference) <= 0 then
    redis.call('HDEL', KEYS[1], field)
  end
end
if more then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[1])
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return 1
