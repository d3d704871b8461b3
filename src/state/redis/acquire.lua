-- Picks a member for each of some callers, one after the other, and counts them in flight. Writes the failure of an
-- attempt before. The rules are those of src/balance/pick.rs and src/balance/strategy/.
--
-- KEYS: 1 the pool's hash ("last", "credits" and the members' records), 2 the tenant's credential records, 3 the pool's
--       in-flight counts by member and holder, 4 the tenant's holders by the time they are alive until, 5 the pool's
--       windows of counts
-- ARGV: 1, 2 for plain.lua alone, 3 how many callers, 4 clock ahead (ms), 5 holder, 6 holder ttl (ms), 7 state ttl (ms),
--       8 the members in MessagePack, each a list of key, record, ordinal, priority, credential, weight, requests a minute,
--       tokens a minute, calls at once, 9 in MessagePack a list of strategy, whether in-flight counts matter, whether
--       nothing but turn and records tells members apart, whether the pool has a last resort, the callers (each a list of
--       lease, trial ttl in ms, tokens to reserve, whether it can go to no other pool), the indices of the tried, the failure as `fail` takes it or an empty list
-- Returns the time, two a caller, then three a member that cools: its index, ms left, class. Two a caller are: the index
-- of its member and 0, 1 where that has a record, 2 where the call is its trial or joins it, 3 where it is of the last
-- resort; or -1 and 0 while a trial is running; or -2 and "ms class" of who is back first, "" where one could serve another
-- call.

local POOL, CREDENTIALS, COUNTS, HOLDERS, USED = unpack(KEYS)
local now, holder, state_ttl = clock(ARGV[4]), ARGV[5], ARGV[7]
local strategy, counts_matter, alike, has_last_resort, callers, tries, failure = unpack(cmsgpack.unpack(ARGV[9]))
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

-- From when on a pool all of whose members cool may call which of them; nil where it has nobody to call.
local function last_resort(tokens)
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
  local due, oldest = last_resort(tokens)
  if due and now >= due then
    return oldest, 3
  end
  return nil, due
end

-- What callers were told whom nobody can serve. It holds for the next, where nothing but records tells members apart.
local refused = {}
local answer, calls, begun, changed = { now }, {}, {}, {}
for _, caller in ipairs(callers) do
  local lease, trial_ttl, tokens, is_last = unpack(caller)
  local refusal, index, kind = alike and refused[is_last], nil, nil
  if not refusal then
    index, kind = choose_for(tokens, is_last)
  end
  if not index then
    refusal = refusal or { refuse(tokens, kind) }
    refused[is_last] = refusal
    table.insert(answer, refusal[1])
    table.insert(answer, refusal[2])
  else
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
