-- Picks a member for each of some callers, one after the other, and counts them in flight. Writes the failure of an
-- attempt before. The rules are those of src/balance/pick.rs and src/balance/strategy/.
--
-- KEYS: 1 the pool's hash ("last", "credits" and the members' records), 2 the tenant's credential records, 3 the pool's
--       in-flight counts by member and holder, 4 the tenant's holders by the time they are alive until, 5 the pool's
--       windows of counts, 6 the pool's line
-- ARGV: 1, 2 for plain.lua alone, 3 how many callers, 4 clock ahead (ms), 5 holder, 6 holder ttl (ms), 7 state ttl (ms),
--       8 the members in MessagePack, each a list of key, record, ordinal, priority, credential, weight, requests a minute,
--       tokens a minute, calls at once, 9 in MessagePack a list of:
--       of the pool the strategy, whether in-flight counts matter, whether nothing but turn and records tells members
--       apart, whether it has a last resort, and whether callers wait for room;
--       the callers, each a list of lease, trial ttl in ms, tokens to reserve, whether it can go to no other pool, and where
--       it stands as stand.lua takes it;
--       the indices of the tried; the failure as `fail` takes it or an empty list; the replica or "" where that is the holder
-- Returns the time, two a caller, then three a member that cools: its index, ms left, class. Two a caller are: the index
-- of its member and 0, 1 where that has a record, 2 where the call is its trial or joins it, 3 where it is of the last
-- resort; or -1 while a trial is running, and for one who waits in how many ms another call is let in, 0 where that is not
-- known; or -2 and "ms class" of who is back first, "" where one could serve another call. For one who waits and steps
-- aside -3 and -4; for one who waits for room how many do elsewhere follows the class.

local POOL, CREDENTIALS, COUNTS, HOLDERS, USED, LINE = unpack(KEYS)
local now, holder, state_ttl = clock(ARGV[4]), ARGV[5], ARGV[7]
local of_pool, callers, tries, failure, replica = unpack(cmsgpack.unpack(ARGV[9]))
local strategy, counts_matter, alike, has_last_resort, waits = unpack(of_pool)
local choose = STRATEGIES[strategy]
if not choose then
  return redis.error_reply('ERR no such strategy: ' .. tostring(strategy))
end
if #failure > 0 then
  fail(POOL, CREDENTIALS, failure, 1, now)
  redis.call('PEXPIRE', CREDENTIALS, state_ttl)
end
local members, tried = cmsgpack.unpack(ARGV[8]), {}
for _, index in ipairs(tries) do
  tried[index + 1] = true
end

local turn, records = { last = -1, credits = {} }, {}
local stored = redis.call('HGETALL', POOL)
for i = 1, #stored, 2 do
  local name, value = stored[i], stored[i + 1]
  if name == 'last' then
    turn.last = tonumber(value)
  elseif name == 'credits' then
    local list = words(value)
    for j = 1, #list, 3 do
      table.insert(turn.credits, { key = list[j], weight = tonumber(list[j + 1]), credit = tonumber(list[j + 2]) })
    end
  else
    local record = recall(POOL, name, value, now)
    if is_spent(record, now) then
      redis.call('HDEL', POOL, name)
    else
      records[name] = record
    end
  end
end

local credential_records = {}
if redis.call('EXISTS', CREDENTIALS) == 1 then
  local names = {}
  for i, member in ipairs(members) do
    names[i] = member[CREDENTIAL]
  end
  if #names > 0 then
    for i, text in ipairs(redis.call('HMGET', CREDENTIALS, unpack(names))) do
      local record = recall(CREDENTIALS, names[i], text, now)
      if record and is_spent(record, now) then
        redis.call('HDEL', CREDENTIALS, names[i])
      else
        credential_records[names[i]] = record
      end
    end
  end
end

local counts = counts_matter and in_flight(COUNTS, HOLDERS, now) or {}

-- Its own record and its credential's, where there are any, each with where it is kept.
local function places_of(member)
  local own, shared = records[member[RECORD]], credential_records[member[CREDENTIAL]]
  local places = {}
  if own then
    places[1] = { POOL, member[RECORD], own }
  end
  if shared then
    places[#places + 1] = { CREDENTIALS, member[CREDENTIAL], shared }
  end
  return places
end

-- Where a member stands, and while it cools until when, and why.
local function cooldown_of(member)
  local own, shared = records[member[RECORD]], credential_records[member[CREDENTIAL]]
  if not own and not shared then
    return AVAILABLE, 0, ''
  end
  local of_own, of_shared = standing(own, now), standing(shared, now)
  if of_own == COOLING and (of_shared ~= COOLING or own.ends >= shared.ends) then
    return COOLING, own.ends, own.class
  elseif of_shared == COOLING then
    return COOLING, shared.ends, shared.class
  end
  return math.max(of_own, of_shared), 0, ''
end

-- The windows of those who were looked at, by field: as Redis has them, and those that were read.
local texts, windows = {}, {}
local function window_of(kind, member)
  local field = kind .. member[KEY]
  windows[field] = windows[field] or parse_window(texts[field] or redis.call('HGET', USED, field) or '')
  return windows[field]
end

-- Until when a limit of so many a minute leaves no room for `amount`; 0 where there is room. Where there is none before
-- `enough`, that will do for an answer.
local function limited_until(kind, member, limit, amount, enough)
  if limit == 0 then
    return 0
  end
  local field = kind .. member[KEY]
  if not windows[field] then
    texts[field] = texts[field] or redis.call('HGET', USED, field) or ''
    local has_room, oldest = glance(texts[field], now, limit, amount)
    if has_room then
      return 0
    elseif oldest and (oldest + BUCKETS) * BUCKET >= enough then
      return enough
    end
  end
  return room(window_of(kind, member), now, limit, amount)
end

-- Until about when a member is at one of its limits; 0 where it is not. See `limited_until`.
local function full_until(member, tokens, enough)
  local full = math.max(limited_until('r:', member, member[REQUESTS], 1, enough),
    limited_until('t:', member, member[TOKENS], tokens, enough))
  if member[AT_ONCE] > 0 and (counts[member[KEY]] or 0) >= member[AT_ONCE] then
    full = math.max(full, now + CONCURRENCY_PAUSE)
  end
  return full
end

local function has_room(member, tokens)
  return full_until(member, tokens, now) == 0
end

-- From when on a pool all of whose members cool may call which of them, for one who has tried those; nil where it has
-- nobody to call.
local function last_resort(tokens, tried)
  local passed, pace, oldest, chosen = nil, PACE, nil, nil
  for i, member in ipairs(members) do
    local state = cooldown_of(member)
    if state ~= COOLING and state ~= TRIAL_RUNNING then
      return nil
    end
    local own, shared = records[member[RECORD]], credential_records[member[CREDENTIAL]]
    if own and own.failed > 0 and standing(shared, now) == AVAILABLE then
      passed, pace = math.max(passed or 0, own.passed), math.min(pace, PACE / 2 ^ math.min(own.served, PROOF))
      if not tried[i] and (not oldest or own.failed < oldest) and has_room(member, tokens) then
        oldest, chosen = own.failed, i
      end
    end
  end
  return chosen and passed + pace, chosen
end

-- What a caller is told whom nobody can serve. Its last resort is due at that time, where it has one.
local function refuse(tokens, resort)
  local waiting, someone_could, back, back_class = false, false, nil, ''
  for i, member in ipairs(members) do
    local state, ends, class = cooldown_of(member)
    local full = full_until(member, tokens, back or math.huge)
    if full > ends then
      ends, class = full, RATE_LIMITED
    end
    if ends == 0 then
      someone_could = true
      waiting = waiting or (not tried[i] and (state == TRIAL_RUNNING or state == JOINABLE))
    elseif not back or ends < back then
      back, back_class = ends, class
    end
  end
  if waiting then
    return -1, 0
  elseif someone_could or not back then
    return -2, ''
  end
  return -2, string.format('%.0f %s', math.min(back, resort or back) - now, back_class)
end

local pool = { members = members, tried = tried, calls = counts }
local function choose_among(worst, best, tokens)
  if not alike or pool.best ~= best then
    pool.ring, pool.best = nil, best
  end
  pool.may = function(member)
    local state = cooldown_of(member)
    return state >= best and state <= worst and has_room(member, tokens)
  end
  return choose(pool, turn)
end

-- The place of who serves a caller, and 3 where it is of the last resort, else 0; or nil, and when that is due.
local function choose_for(tokens, is_last)
  local index = choose_among(HALF_OPEN, AVAILABLE, tokens)
  if not index and is_last then
    index = choose_among(JOINABLE, JOINABLE, tokens)
  end
  if index then
    turn.last = members[index][ORDINAL]
    return index, 0
  elseif not is_last or not has_last_resort then
    return nil, nil
  end
  local due, oldest = last_resort(tokens, tried)
  if due and now >= due then
    return oldest, 3
  end
  return nil, due
end

-- Whether somebody could serve one who has tried those.
local function has_place(tokens, is_last, tried)
  local worst = is_last and JOINABLE or HALF_OPEN
  for i, member in ipairs(members) do
    if not tried[i] and cooldown_of(member) <= worst and has_room(member, tokens) then
      return true
    end
  end
  local due = is_last and has_last_resort and last_resort(tokens, tried)
  return due and now >= due or false
end

-- Whether one could be served who has tried nobody and needs little.
local function is_of_use()
  return has_place(1, true, {})
end

-- The first to come back of those not tried, or the last resort, where that is due sooner.
local function first_untried(tokens, resort)
  local back, back_class = nil, ''
  for i, member in ipairs(members) do
    local _, ends, class = cooldown_of(member)
    local full = full_until(member, tokens, math.huge)
    if full > ends then
      ends, class = full, RATE_LIMITED
    end
    if ends > 0 and not tried[i] and (not back or ends < back) then
      back, back_class = ends, class
    end
  end
  return back and string.format('%.0f %s', math.min(back, resort or back) - now, back_class) or ''
end

-- In how long a trial takes another call, or the last resort is due; 0 where that is not known.
local function opens_in(tokens, is_last, resort)
  local first = resort
  for i, member in ipairs(members) do
    if is_last and not tried[i] and cooldown_of(member) == TRIAL_RUNNING and has_room(member, tokens) then
      local at = 0
      for _, place in ipairs(places_of(member)) do
        at = math.max(at, opens(place[3], now))
      end
      first = math.min(first or at, at)
    end
  end
  return first and first - now or 0
end

-- Nobody waits for a trial where nobody has failed.
local line = (waits or next(records) or next(credential_records))
  and look_at_line(LINE, replica == '' and holder or replica, now)
if line and #failure > 0 and failure[1] ~= '' then
  -- A trial has had its verdict.
  line.word = true
end

-- What callers were told whom nobody can serve, and when their last resort is due. It holds for the next, where nothing but
-- records tells members apart.
local refused = {}
local answer, calls, begun, changed = { now }, {}, {}, {}
for _, caller in ipairs(callers) do
  local lease, trial_ttl, tokens, is_last, stand = unpack(caller)
  local is_blocked, index, kind, code, detail = line and overtakes(line, stand, now), nil, nil, nil, nil
  if is_blocked then
    -- Where there is a place, whoever is first has missed its word.
    line.word = line.word or has_place(tokens, is_last, tried)
    code, detail = -1, 0
    if waits then
      code, detail = -2, string.format('%.0f %s', CONCURRENCY_PAUSE, RATE_LIMITED)
    end
  else
    local refusal = alike and refused[is_last]
    if not refusal then
      index, kind = choose_for(tokens, is_last)
    end
    if not index then
      refusal = refusal or { kind, refuse(tokens, kind) }
      refused[is_last] = refusal
      local resort
      resort, code, detail = unpack(refusal, 1, 3)
      if stand[1] ~= PASSING then
        if code == -1 then
          detail = opens_in(tokens, is_last, resort)
        elseif waits and detail == '' then
          detail = first_untried(tokens, resort)
        end
      end
    end
  end
  if not index then
    if line then
      code, detail = stay_in_line(line, stand, now, code, detail, waits, is_blocked, is_of_use)
    end
    table.insert(answer, code)
    table.insert(answer, detail)
  else
    if line then
      serve_from_line(line, stand, now)
    end
    local member = members[index]
    for _, place in ipairs(places_of(member)) do
      kind = math.max(kind, begin(place[3], now, lease, now + trial_ttl) and 2 or 1)
      begun[place[1] .. ' ' .. place[2]] = place
    end
    if kind >= 2 then
      -- It is one caller's: others may not have this member now.
      pool.ring, refused = nil, {}
    end
    counts[member[KEY]] = (counts[member[KEY]] or 0) + 1
    calls[member[KEY]] = (calls[member[KEY]] or 0) + 1
    if member[REQUESTS] > 0 then
      add(window_of('r:', member), now, 1)
      changed['r:' .. member[KEY]] = true
    end
    if member[TOKENS] > 0 then
      add(window_of('t:', member), now, tokens)
      changed['t:' .. member[KEY]] = true
    end
    table.insert(answer, index - 1)
    table.insert(answer, kind)
  end
end

for _, place in pairs(begun) do
  save(place[1], place[2], place[3])
end
if line then
  leave_line(LINE, line, now, is_of_use)
end
if next(calls) then
  redis.call('HSET', POOL, 'last', turn.last)
  if #turn.credits > 0 then
    local list = {}
    for i, credit in ipairs(turn.credits) do
      list[i] = string.format('%s %.0f %.0f', credit.key, credit.weight, credit.credit)
    end
    redis.call('HSET', POOL, 'credits', table.concat(list, ' '))
  end
  redis.call('PEXPIRE', POOL, state_ttl)
  for key, more in pairs(calls) do
    redis.call('HINCRBY', COUNTS, key .. '|' .. holder, more)
  end
  redis.call('ZADD', HOLDERS, string.format('%.0f', now + tonumber(ARGV[6])), holder)
  redis.call('PEXPIRE', COUNTS, state_ttl)
  redis.call('PEXPIRE', HOLDERS, state_ttl)
end
if next(changed) then
  for field in pairs(changed) do
    save_window(USED, field, windows[field])
  end
  redis.call('PEXPIRE', USED, state_ttl)
end
if next(records) or next(credential_records) then
  for i, member in ipairs(members) do
    local _, ends, class = cooldown_of(member)
    if ends > 0 then
      table.insert(answer, i - 1)
      table.insert(answer, ends - now)
      table.insert(answer, class)
    end
  end
end
return answer
