-- What an operator sees. Counts of replicas that are no longer alive do not count, and are removed.
-- KEYS: as in acquire.lua. ARGV: two a member: key, credential.
-- Returns three a member: ms left of its cooldown or 0, its class, calls in flight.
local now = now_ms()
local alive = {}
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now))
for _, replica in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  alive[replica] = true
end
local counts = {}
local stored = redis.call('HGETALL', KEYS[3])
for i = 1, #stored, 2 do
  local member, replica = string.match(stored[i], '^(.*)|(.*)$')
  if replica and alive[replica] then
    counts[member] = (counts[member] or 0) + tonumber(stored[i + 1])
  else
    redis.call('HDEL', KEYS[3], stored[i])
  end
end
local result = {}
for i = 1, #ARGV, 2 do
  local left, class = 0, ''
  for _, record in ipairs({ parse(redis.call('HGET', KEYS[1], ARGV[i])) or blank(),
    parse(redis.call('HGET', KEYS[2], ARGV[i + 1])) or blank() }) do
    if standing(record, now) == 3 and record.ends - now > left then
      left, class = record.ends - now, record.class
    end
  end
  result[#result + 1] = left
  result[#result + 1] = class
  result[#result + 1] = counts[ARGV[i]] or 0
end
return result
