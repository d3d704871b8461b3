-- Sets what a replica has in flight in a pool to what it truly has.
-- KEYS: 1 the pool's in-flight counts, 2 the tenant's holders.
-- ARGV: 1 clock ahead, 2 replica, 3 replica ttl, 4 state ttl (ms), then two a member: key, count.
local suffix = '|' .. ARGV[2]
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, -#suffix) == suffix then
    redis.call('HDEL', KEYS[1], field)
  end
end
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i] .. suffix, ARGV[i + 1])
end
redis.call('ZADD', KEYS[2], string.format('%.0f', clock(ARGV[1]) + tonumber(ARGV[3])), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
