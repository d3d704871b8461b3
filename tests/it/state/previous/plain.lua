-- The common case of acquire.lua, whose keys, arguments and answer these are: turns of a pool whose members nothing but the
-- turn tells apart, and nobody has failed. It stands before everything else, since what a script defines costs time in
-- every run. The ring has entries of one width, in order, so that not even a large pool is looked through.
if ARGV[1] ~= '' then
  local call, ring = redis.call, ARGV[3]
  local stored = call('HGETALL', KEYS[1])
  local clean = stored[2] == nil or (stored[3] == nil and stored[1] == 'last')
  if clean and call('EXISTS', KEYS[2]) == 0 then
    local last, width, record = tonumber(stored[2] or -1), string.byte(ring, 1, 2)
    local count = (#ring - 2) / width
    local from, to = 0, count
    while from < to do
      local middle = math.floor((from + to) / 2)
      local a, b, c, d = string.byte(ring, middle * width + 3, middle * width + 6)
      if ((a * 256 + b) * 256 + c) * 256 + d > last then
        to = middle
      else
        from = middle + 1
      end
    end
    local at, turns, time = from < count and from or 0, tonumber(ARGV[6]), call('TIME')
    -- A key is "ordinal.record". Cut out, since writing a number costs more than all of this.
    local place = (at + turns - 1) % count * width
    local length = string.byte(ring, place + 7)
    call('HSET', KEYS[1], 'last', string.sub(ring, place + 8, place + 6 + length - record))
    if ARGV[1] == 'later' then
      call('PEXPIRE', KEYS[1], cmsgpack.unpack(ARGV[5])[5])
      return { 5, at, time[1], time[2], turns }
    end
    local new = false
    for i = 0, math.min(turns, count) - 1 do
      place = (at + i) % count * width
      local member = string.sub(ring, place + 8, place + 7 + string.byte(ring, place + 7))
      local calls = math.floor((turns - 1 - i) / count) + 1
      new = call('HINCRBY', KEYS[3], member .. '|' .. ARGV[2], calls) == calls or new
    end
    if new or ARGV[1] == 'refresh' then
      local ahead, _, holder_ttl, _, state_ttl = unpack(cmsgpack.unpack(ARGV[5]))
      -- This hash is gone whenever nothing is in flight, and its time to live with it.
      call('PEXPIRE', KEYS[3], state_ttl)
      if ARGV[1] == 'refresh' then
        local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + ahead
        call('ZADD', KEYS[4], string.format('%.0f', now + holder_ttl), ARGV[2])
        call('PEXPIRE', KEYS[1], state_ttl)
        call('PEXPIRE', KEYS[4], state_ttl)
      end
    end
    return { 5, at, time[1], time[2], turns }
  end
end
