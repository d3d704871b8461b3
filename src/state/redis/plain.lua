-- The common case of acquire.lua, whose keys, arguments and answer these are: one turn of a pool whose members nothing but
-- the turn tells apart, and nobody has failed. It stands before everything else, since what a script defines costs time in
-- every run.
if ARGV[9] == 'plain' and ARGV[10] == '0' and ARGV[12] == '0' and ARGV[13] == '' then
  local stored = redis.call('HGETALL', KEYS[1])
  local clean = #stored == 0 or (#stored == 2 and stored[1] == 'last')
  if clean and redis.call('EXISTS', KEYS[2]) == 0 then
    local members, last, at = cmsgpack.unpack(ARGV[14]), tonumber(stored[2] or -1), 1
    for i = 1, #members do
      if members[i][2] > last then
        at = i
        break
      end
    end
    local member, time = members[at], redis.call('TIME')
    if member then
      local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[1])
      redis.call('HSET', KEYS[1], 'last', member[2])
      local calls = redis.call('HINCRBY', KEYS[3], member[1] .. '|' .. ARGV[3], 1)
      if ARGV[11] == '1' then
        redis.call('ZADD', KEYS[4], string.format('%.0f', now + tonumber(ARGV[4])), ARGV[3])
        redis.call('PEXPIRE', KEYS[1], ARGV[6])
        redis.call('PEXPIRE', KEYS[4], ARGV[6])
      end
      -- The hash is gone whenever nothing is in flight, and its time to live with it.
      if calls == 1 or ARGV[11] == '1' then
        redis.call('PEXPIRE', KEYS[3], ARGV[6])
      end
      return { 1, at - 1, now, 0, 0 }
    end
  end
end
