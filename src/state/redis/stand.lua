-- Who may be served before whom: the part of acquire.lua that keeps a pool's line. The rules are those of src/state/line.rs,
-- over all replicas. The order within a replica is its own; here its first caller stands for all of them.

-- The line as a command of `replica` finds it. Replicas that have not asked for STAND_TTL are gone.
local function look_at_line(key, replica, now)
  local line = { elsewhere = 0, replica = replica }
  local stored = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #stored, 2 do
    local name, ends, waiting = string.match(stored[i], '^(%S+) (%d+) (%d+)$')
    local score, left = tonumber(stored[i + 1]), (tonumber(ends) or 0) - now
    if name == replica then
      line.entry, line.own = stored[i], score
    elseif left <= 0 or left > STAND_TTL then
      redis.call('ZREM', key, stored[i])
    else
      -- The lowest comes first.
      line.first = line.first or score
      line.elsewhere = line.elsewhere + tonumber(waiting)
    end
  end
  return line
end

-- A caller's `stand` is its role, for how long it has been there, how many wait on its replica, for how long the one behind
-- it has been there or -1, and how long it can wait (ms).

-- Whether a caller would overtake one who came before it: of another replica, or, where it does not speak for its own, of
-- that; or one before it in this command.
local function overtakes(line, stand, now)
  local role, score = stand[1], now - stand[2]
  local is_its_own = role == FRONT or role == NEAR
  return role ~= ASIDE
    and (line.held or line.first and line.first < score or not is_its_own and line.own and line.own < score)
end

-- A caller is served.
local function serve_from_line(line, stand, now)
  local role, _, waiting, next_age = unpack(stand)
  line.served = true
  if role == FRONT then
    -- The one behind it asks at once. Those who have stepped aside are told with the others.
    line.own = next_age >= 0 and now - next_age or waiting > 1 and LAST or nil
    line.changed, line.waiting = true, waiting - 1
  end
end

-- A caller is not served, and would be told `code` and `detail`: returns what it is told. `waits` says whether it waits for
-- room and not only for a trial, `is_blocked` whether it would overtake, `is_of_use` whether others could be served.
local function stay_in_line(line, stand, now, code, detail, waits, is_blocked, is_of_use)
  local role, age, waiting, _, left = unpack(stand)
  local score = now - age
  if role == PASSING then
    return code, detail
  end
  if code == -2 and not (waits and (tonumber(string.match(detail, '^%d+')) or left) < left) then
    -- It fails. So may those behind one that stood in line: they are to ask.
    if role == FRONT then
      line.own, line.changed = nil, true
    end
    line.word = line.word or role ~= JOINING
    return code, detail
  end
  line.waiting, line.changed = waiting, true
  if code == -2 and detail ~= '' then
    detail = string.format('%s %.0f', detail, line.elsewhere)
  end
  if role == ASIDE or (not is_blocked and is_of_use()) then
    line.own = role ~= FRONT and line.own or LAST
    return code - 2, detail
  end
  line.own = role == FRONT and score or math.min(line.own or LAST, score)
  line.held = true
  return code, detail
end

-- Writes what has become of a replica's own place, and tells the next where there is something for it.
local function leave_line(key, line, now, is_of_use)
  if line.changed then
    if line.entry then
      redis.call('ZREM', key, line.entry)
    end
    if line.own then
      local entry = string.format('%s %.0f %.0f', line.replica, now + STAND_TTL, line.waiting or 1)
      redis.call('ZADD', key, string.format('%.0f', line.own), entry)
      redis.call('PEXPIRE', key, STAND_TTL)
    end
  end
  -- Its own next asks without being told.
  local is_next_elsewhere = line.first and not (line.own and line.own < line.first)
  if line.word or (line.served and is_next_elsewhere and is_of_use()) then
    tell(key)
  end
end

