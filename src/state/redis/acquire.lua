-- Writes the failure of the attempt before, picks a member by the rules of src/balance/pick.rs and
-- src/balance/strategy/, counts it in flight.
--
-- KEYS: 1 the pool's hash ("last", "credits" and the members' records), 2 the tenant's credential records, 3 the pool's
--       in-flight counts by member and holder, 4 the tenant's holders by the time they are alive until, 5 the pool's
--       windows of counts
-- ARGV: 1 clock ahead, 2 lease, 3 holder, 4 holder ttl, 5 trial ttl, 6 state ttl (all ms), 7 strategy, 8 tokens to
--       reserve, 9 whether in-flight counts matter ("1"), 10 whether a failure follows ("1"); then the failure, as
--       `fail` takes it; then eight a member: key, ordinal, priority, credential, weight, requests a minute, tokens a
--       minute, calls at once, with a tried member's key behind a "!"
-- Returns {1, index, began, trial, marked} | {2} trial running | {3, ms until the first is back or -1, its class}, then
-- three a member that cools: its index, ms left, class

local POOL, CREDENTIALS, COUNTS, HOLDERS, USED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = clock(ARGV[1])
local lease, holder, tokens = ARGV[2], ARGV[3], tonumber(ARGV[8])
local first, STEP = 11, 8
if ARGV[10] == '1' then
  fail(POOL, CREDENTIALS, ARGV, first, now)
  redis.call('PEXPIRE', CREDENTIALS, ARGV[6])
  first = first + FAILURE_ARGS
end

local last, credits, records = -1, {}, {}
local stored = redis.call('HGETALL', POOL)
for i = 1, #stored, 2 do
  local name, value = stored[i], stored[i + 1]
  if name == 'last' then
    last = tonumber(value)
  elseif name == 'credits' then
    local list = words(value)
    for j = 1, #list, 3 do
      credits[#credits + 1] = { key = list[j], weight = tonumber(list[j + 1]), credit = tonumber(list[j + 2]) }
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
  for i = first, #ARGV, STEP do
    names[#names + 1] = ARGV[i + 3]
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

local counts = ARGV[9] == '1' and in_flight(COUNTS, HOLDERS, now) or {}

-- Who may serve, by tier; who is away, and until when.
local cooling = {}
local eligible, tier, waiting, someone_could, back, back_class = {}, nil, false, false, nil, ''
for i = first, #ARGV, STEP do
  local key = ARGV[i]
  local tried = string.sub(key, 1, 1) == '!'
  if tried then
    key = string.sub(key, 2)
  end
  local own, shared = records[record_of(key)], credential_records[ARGV[i + 3]]
  local own_state, shared_state = standing(own, now), standing(shared, now)
  local state = math.max(own_state, shared_state)
  local full = 0
  local rpm, tpm, at_once = tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6]), tonumber(ARGV[i + 7])
  if rpm > 0 then
    full = math.max(full, room(window(USED, 'r:' .. key), now, rpm, 1))
  end
  if tpm > 0 then
    full = math.max(full, room(window(USED, 't:' .. key), now, tpm, tokens))
  end
  if at_once > 0 and (counts[key] or 0) >= at_once then
    full = math.max(full, now + 100)
  end
  local ends, class = 0, ''
  if own_state == 3 then
    ends, class = own.ends, own.class
  end
  if shared_state == 3 and shared.ends > ends then
    ends, class = shared.ends, shared.class
  end
  if ends > 0 then
    cooling[#cooling + 1] = (i - first) / STEP
    cooling[#cooling + 1] = ends - now
    cooling[#cooling + 1] = class
  end
  if full > ends then
    ends, class = full, 'RATE_LIMITED'
  end
  if ends > 0 then
    if not back or ends < back then
      back, back_class = ends, class
    end
  elseif state == 2 then
    someone_could, waiting = true, waiting or not tried
  else
    someone_could = true
    local priority = tonumber(ARGV[i + 2])
    eligible[#eligible + 1] = { at = i, key = key, ordinal = tonumber(ARGV[i + 1]), priority = priority,
      weight = tonumber(ARGV[i + 4]), calls = counts[key] or 0, tried = tried }
    if not tried and (not tier or priority < tier) then
      tier = priority
    end
  end
end

local function answer(list)
  for _, value in ipairs(cooling) do
    list[#list + 1] = value
  end
  return list
end

if not tier then
  if waiting then
    return answer({ 2 })
  elseif not someone_could and back then
    return answer({ 3, back - now, back_class })
  end
  return answer({ 3, -1, '' })
end

local ring = {}
for _, member in ipairs(eligible) do
  if member.priority == tier then
    ring[#ring + 1] = member
  end
end

-- Whether a is before b in the turn.
local function in_turn(a, b)
  local a_behind, b_behind = a.ordinal <= last, b.ordinal <= last
  if a_behind ~= b_behind then
    return b_behind
  end
  return a.ordinal < b.ordinal
end

local function least(before)
  local best
  for _, member in ipairs(ring) do
    if not member.tried and (not best or before(member, best)) then
      best = member
    end
  end
  return best
end

-- src/balance/strategy/weighted.rs
local SCALE = 16
local function floor_div(a, b)
  return (a - a % b) / b
end

local function rebase(total)
  local old_total, kept = 0, {}
  for _, old in ipairs(credits) do
    old_total, kept[old.key] = old_total + old.weight, old.credit
  end
  local sum = 0
  for _, member in ipairs(ring) do
    member.credit = old_total == 0 and 0 or floor_div((kept[member.key] or 0) * total, old_total)
    sum = sum + member.credit
  end
  local left = sum
  for _, member in ipairs(ring) do
    local share = floor_div(sum * member.weight, total)
    member.credit, left = member.credit - share, left - share
  end
  ring[1].credit = ring[1].credit - left
end

local function weighted()
  local total, stable = 0, #credits == #ring
  for i, member in ipairs(ring) do
    total = total + member.weight
    stable = stable and credits[i].key == member.key and credits[i].weight == member.weight
  end
  if stable then
    for i, member in ipairs(ring) do
      member.credit = credits[i].credit
    end
  else
    rebase(total)
  end
  local whole = total * SCALE
  for _, member in ipairs(ring) do
    member.credit = member.credit + member.weight * SCALE
    member.owed = member.credit > 0
    member.due = -floor_div(member.credit - whole, member.weight * SCALE)
  end
  local best = least(function(a, b)
    if a.owed ~= b.owed then
      return a.owed
    elseif a.due ~= b.due then
      return a.due < b.due
    elseif a.weight ~= b.weight then
      return a.weight > b.weight
    end
    return in_turn(a, b)
  end)
  best.credit = best.credit - whole
  local list = {}
  for i, member in ipairs(ring) do
    list[i] = string.format('%s %.0f %.0f', member.key, member.weight, member.credit)
  end
  redis.call('HSET', POOL, 'credits', table.concat(list, ' '))
  return best
end

local chosen
if ARGV[7] == 'weighted-round-robin' then
  chosen = weighted()
elseif ARGV[7] == 'least-connections' then
  chosen = least(function(a, b)
    local a_load, b_load = a.calls * b.weight, b.calls * a.weight
    if a_load ~= b_load then
      return a_load < b_load
    end
    return in_turn(a, b)
  end)
else
  chosen = least(in_turn)
end

local key, credential = chosen.key, ARGV[chosen.at + 3]
local trial, marked = 0, 0
local own = record_of(key)
for _, place in ipairs({ { POOL, own, records[own] }, { CREDENTIALS, credential, credential_records[credential] } }) do
  local record = place[3]
  if record then
    marked = 1
    if begin(record, now, lease, now + tonumber(ARGV[5])) then
      trial = 1
    end
    save(place[1], place[2], record)
  end
end
redis.call('HSET', POOL, 'last', ARGV[chosen.at + 1])
redis.call('HINCRBY', COUNTS, key .. '|' .. holder, 1)
redis.call('ZADD', HOLDERS, string.format('%.0f', now + tonumber(ARGV[4])), holder)
redis.call('PEXPIRE', POOL, ARGV[6])
redis.call('PEXPIRE', COUNTS, ARGV[6])
redis.call('PEXPIRE', HOLDERS, ARGV[6])
if tonumber(ARGV[chosen.at + 5]) > 0 or tonumber(ARGV[chosen.at + 6]) > 0 then
  if tonumber(ARGV[chosen.at + 5]) > 0 then
    add(USED, 'r:' .. key, now, 1)
  end
  if tonumber(ARGV[chosen.at + 6]) > 0 then
    add(USED, 't:' .. key, now, tokens)
  end
  redis.call('PEXPIRE', USED, ARGV[6])
end
return answer({ 1, (chosen.at - first) / STEP, now, trial, marked })
