-- Picks a member for each of some callers, one after the other, and counts them in flight. Writes the failure of an
-- attempt before. The rules are those of src/balance/pick.rs and src/balance/strategy/.
--
-- KEYS: 1 the pool's hash ("last", "credits" and the members' records), 2 the tenant's credential records, 3 the pool's
--       in-flight counts by member and holder, 4 the tenant's holders by the time they are alive until, 5 the pool's
--       windows of counts, 6 the pool's line
-- ARGV: 1, 2 for plain.lua alone, 3 how many callers, 4 clock ahead (ms), 5 holder, 6 holder ttl (ms), 7 state ttl (ms),
--       8 the members in MessagePack, each a list of key, record, ordinal, priority, credential, weight, requests a minute,
--       tokens a minute, calls at once, 9 in MessagePack a list of strategy, whether in-flight counts matter, the callers (each a
--       list of lease, trial ttl in ms, tokens to reserve, and where it stands as stand.lua takes it), the indices of the tried, the failure as `fail` takes it or an empty list, whether callers wait for room, the replica
--       or "" where that is the holder
-- Returns the time, two a caller, then three a member that cools: its index, ms left, class. Two a caller are: the index
-- of its member and 0, 1 where that has a record, 2 where the call is its trial; or -1 and 0 while a trial is running; or
-- -2 and "ms class" of who is back first, "" where one could serve another call; two less for one who waits and steps
-- aside. Where it waits, how many do elsewhere follows.

local POOL, CREDENTIALS, COUNTS, HOLDERS, USED, LINE = unpack(KEYS)
local now, holder, state_ttl = clock(ARGV[4]), ARGV[5], ARGV[7]
local strategy, counts_matter, callers, tries, failure, waits, replica = unpack(cmsgpack.unpack(ARGV[9]))
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
    names[i] = member[5]
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

local counts, nowhere, limited = counts_matter and in_flight(COUNTS, HOLDERS, now) or {}, {}, counts_matter
for i, list in ipairs(members) do
  local key, record, ordinal, priority, credential, weight, rpm, tpm, at_once = unpack(list)
  local member = { index = i - 1, key = key, ordinal = ordinal, priority = priority, weight = weight, rpm = rpm,
    tpm = tpm, at_once = at_once, calls = counts[key] or 0, tried = tried[i], places = nowhere }
  -- Its own record and its credential's, where there are any, each with where it is kept.
  local own, shared = records[record], credential_records[credential]
  if own or shared then
    member.places = {}
    table.insert(member.places, own and { POOL, record, own })
    table.insert(member.places, shared and { CREDENTIALS, credential, shared })
  end
  member.requests, member.tokens = rpm > 0 and window(USED, 'r:' .. key), tpm > 0 and window(USED, 't:' .. key)
  limited = limited or rpm > 0 or tpm > 0
  members[i] = member
end

-- Where a member stands, and while it cools until when, and why.
local function cooldown_of(member)
  local state, ends, class = AVAILABLE, 0, ''
  for _, place in ipairs(member.places) do
    local record = place[3]
    local one = standing(record, now)
    state = math.max(state, one)
    if one == COOLING and record.ends > ends then
      ends, class = record.ends, record.class
    end
  end
  return state, ends, class
end

-- The same, where it is away while it is at a limit as well.
local function absence_of(member, tokens)
  local state, ends, class = cooldown_of(member)
  local full = 0
  if member.requests then
    full = math.max(full, room(member.requests, now, member.rpm, 1))
  end
  if member.tokens then
    full = math.max(full, room(member.tokens, now, member.tpm, tokens))
  end
  if member.at_once > 0 and member.calls >= member.at_once then
    full = math.max(full, now + CONCURRENCY_PAUSE)
  end
  if full > ends then
    return state, full, RATE_LIMITED
  end
  return state, ends, class
end

-- Those of the best tier who may serve. Without any, what the caller is told instead.
local function find_eligible(tokens)
  local eligible, tier, waiting, someone_could, back, back_class = {}, nil, false, false, nil, ''
  for _, member in ipairs(members) do
    local state, ends, class = absence_of(member, tokens)
    if ends > 0 then
      if not back or ends < back then
        back, back_class = ends, class
      end
    elseif state == TRIAL_RUNNING then
      someone_could, waiting = true, waiting or not member.tried
    else
      someone_could = true
      eligible[#eligible + 1] = member
      if not member.tried and (not tier or member.priority < tier) then
        tier = member.priority
      end
    end
  end
  if tier then
    local ring = {}
    for _, member in ipairs(eligible) do
      if member.priority == tier then
        ring[#ring + 1] = member
      end
    end
    return ring
  elseif waiting then
    return nil, -1, 0
  elseif not someone_could and back then
    return nil, -2, string.format('%.0f %s', back - now, back_class)
  end
  return nil, -2, ''
end

-- Whether one could be served who has tried nobody and needs little.
local function is_of_use()
  local tried_by_it = {}
  for i, member in ipairs(members) do
    tried_by_it[i], member.tried = member.tried, nil
  end
  local found = find_eligible(1)
  for i, member in ipairs(members) do
    member.tried = tried_by_it[i]
  end
  return found ~= nil
end

-- The first to come back of those that a waiting caller has not tried, where one that it has tried could serve.
local function first_untried(tokens)
  local back, back_class = nil, ''
  for _, member in ipairs(members) do
    local _, ends, class = absence_of(member, tokens)
    if ends > 0 and not member.tried and (not back or ends < back) then
      back, back_class = ends, class
    end
  end
  return back and string.format('%.0f %s', back - now, back_class) or ''
end

-- Nobody waits for a trial where nobody has failed.
local line = (waits or next(records) or next(credential_records))
  and look_at_line(LINE, replica == '' and holder or replica, now)
if line and #failure > 0 and failure[1] ~= '' then
  -- A trial has had its verdict.
  line.word = true
end

local answer, calls, begun, ring, code, detail = { now }, {}, {}, nil, nil, nil
for _, caller in ipairs(callers) do
  local lease, trial_ttl, tokens, stand = unpack(caller)
  if not code or limited then
    ring, code, detail = find_eligible(tokens)
    code = code or 0
  end
  local its_ring, its_code, its_detail = ring, code, detail
  if waits and stand[1] ~= PASSING and code == -2 and detail == '' then
    its_detail = first_untried(tokens)
  end
  if line then
    its_ring, its_code, its_detail =
      stand_in_line(line, stand, now, its_ring, its_code, its_detail, waits, is_of_use)
  end
  if not its_ring then
    table.insert(answer, its_code)
    table.insert(answer, its_detail)
  else
    local member = choose(its_ring, turn)
    turn.last = member.ordinal
    local kind = #member.places > 0 and 1 or 0
    for _, place in ipairs(member.places) do
      if begin(place[3], now, lease, now + trial_ttl) then
        kind = 2
        -- It is one caller's: nobody else may have this member now.
        code = nil
      end
      begun[place[1] .. ' ' .. place[2]] = place
    end
    member.calls = member.calls + 1
    calls[member.key] = (calls[member.key] or 0) + 1
    if member.requests then
      add(member.requests, now, 1)
    end
    if member.tokens then
      add(member.tokens, now, tokens)
    end
    table.insert(answer, member.index)
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
for _, member in ipairs(members) do
  if calls[member.key] and (member.requests or member.tokens) then
    if member.requests then
      save_window(USED, 'r:' .. member.key, member.requests)
    end
    if member.tokens then
      save_window(USED, 't:' .. member.key, member.tokens)
    end
    redis.call('PEXPIRE', USED, state_ttl)
  end
  local _, ends, class = cooldown_of(member)
  if ends > 0 then
    table.insert(answer, member.index)
    table.insert(answer, ends - now)
    table.insert(answer, class)
  end
end
return answer
