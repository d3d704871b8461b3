-- Brings what a replica knows of a pool that it has decided on alone: sets its calls in flight to what it truly has, and adds
-- the leases that it has granted alone and the calls and tokens that it has used alone.
-- KEYS: as in acquire.lua.
-- ARGV: 1 clock ahead, 2 replica, 3 replica ttl, 4 state ttl (ms), 5 in MessagePack three lists: members, each with its calls
-- in flight; leases, each with its member, its entry and how long it lasts (ms); windows, each with its field and a list of
-- how long ago (ms) how much was used, the newest last.
local POOL, CREDENTIALS, COUNTS, HOLDERS, USED, LEASES, TURN, LINE = unpack(KEYS)
-- A pool that nobody can be picked from goes on alone: this fails where one of its keys is of another type.
redis.call('HGET', POOL, 'last')
redis.call('HEXISTS', CREDENTIALS, '')
redis.call('HGET', TURN, 'credits')
redis.call('ZRANGE', LINE, 0, 0)
local now, suffix = clock(ARGV[1]), '|' .. ARGV[2]
local calls, leases, windows = unpack(cmsgpack.unpack(ARGV[5]))
for _, field in ipairs(redis.call('HKEYS', COUNTS)) do
  if string.sub(field, -#suffix) == suffix then
    redis.call('HDEL', COUNTS, field)
  end
end
for _, one in ipairs(calls) do
  redis.call('HSET', COUNTS, one[1] .. suffix, one[2])
end
-- Of a pool that is gone nothing is left behind.
if #calls > 0 then
  redis.call('ZADD', HOLDERS, string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
end
for _, one in ipairs(leases) do
  local member, entry, left = unpack(one)
  if not redis.call('ZSCORE', LEASES, entry) then
    redis.call('ZADD', LEASES, string.format('%.0f', now + left), entry)
    redis.call('HINCRBY', COUNTS, member .. '|' .. ALL_LEASES, 1)
    redis.call('ZADD', HOLDERS, string.format('%.0f', LAST), ALL_LEASES)
  end
end
for _, one in ipairs(windows) do
  local field, used = unpack(one)
  local list = window(USED, field)
  for _, some in ipairs(used) do
    local age, amount = unpack(some)
    bring(list, now, now - age, amount)
  end
  save_window(USED, field, list)
end
for _, key in ipairs({ COUNTS, HOLDERS, LEASES, USED }) do
  redis.call('PEXPIRE', key, ARGV[4])
end
return 1
