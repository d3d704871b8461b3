-- Writes the failure of the attempt before, picks a member by the rules of src/balance/pick.rs and
-- src/balance/strategy/, counts it in flight. Or takes turns: who would serve next, one after the other, of those that
-- are well. They are used at once and counted in flight, or in advance, and told of later.
--
-- KEYS: 1 the pool's hash ("last", "credits" and the members' records), 2 the tenant's credential records, 3 the pool's
--       in-flight counts by member and holder, 4 the tenant's holders by the time they are alive until, 5 the pool's
--       windows of counts
-- ARGV: 1 "plain" where nothing but turn and failures matters, "refresh" where the keys' time to live and the holder's are
--       to be moved too, "later" where what is in flight is told later, "" where more matters, 2 holder, 3 where not ""
--       the ring: how long an entry is, how long a record's name is (a byte each), then an entry a member: its ordinal in
--       four bytes, how long its key is in one, its key, and what fills it up, 4 the members in MessagePack, each a list of
--       key, ordinal, priority, credential, weight, requests a minute, tokens a minute, calls at once, 5 in MessagePack a
--       list of clock ahead, lease, holder ttl, trial ttl, state ttl (all ms), strategy, tokens to reserve, whether
--       in-flight counts matter, whether they are told later, the indices of the tried, how many turns or 0 for a pick,
--       the failure as `fail` takes it or an empty list, 6 how many turns, and 1 for a pick, where nobody has failed
-- Returns {1, index, began, trial, marked} | {2} trial running | {3, ms until the first is back or -1, its class} |
-- {4, now, ms until somebody may be back or -1, indices between spaces, each with a "!" where it has a record}, then
-- three a member that cools: its index, ms left, class. Or {5, index, seconds, microseconds, turns}, of a pool in which
-- nobody has failed: as 1, at that time, or so many turns round the ring from there. There are no turns while a trial is
-- due: a pick has to take it.

local POOL, CREDENTIALS, COUNTS, HOLDERS, USED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ahead, lease, holder_ttl, trial_ttl, state_ttl, strategy, tokens, counts_matter, told_later, tries, turns_wanted,
  failure = unpack(cmsgpack.unpack(ARGV[5]))
local now, holder = clock(ahead), ARGV[2]
if #failure > 0 then
  fail(POOL, CREDENTIALS, failure, 1, now)
  redis.call('PEXPIRE', CREDENTIALS, state_ttl)
end
local members, tried = cmsgpack.unpack(ARGV[4]), {}
for _, index in ipairs(tries) do
  tried[index + 1] = true
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
  for i, member in ipairs(members) do
    names[i] = member[4]
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

-- Who may serve, by tier; who is away, and until when.
local cooling = {}
local eligible, tier, waiting, someone_could, back, back_class = {}, nil, false, false, nil, ''
for i, member in ipairs(members) do
  local key, ordinal, priority, credential, weight, rpm, tpm, at_once = unpack(member)
  local own, shared = records[record_of(key)], credential_records[credential]
  local own_state, shared_state = standing(own, now), standing(shared, now)
  local state = math.max(own_state, shared_state)
  local full = 0
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
    cooling[#cooling + 1] = i - 1
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
    someone_could, waiting = true, waiting or not tried[i]
  else
    someone_could = true
    eligible[#eligible + 1] = { index = i - 1, key = key, credential = credential, ordinal = ordinal,
      priority = priority, weight = weight, calls = counts[key] or 0, tried = tried[i], due = state == 1,
      rpm = rpm, tpm = tpm }
    if not tried[i] and (not tier or priority < tier) then
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

if turns_wanted > 0 and not tier then
  return answer({ 4, now, back and back - now or -1, '' })
elseif not tier then
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

local total = 0
local function begin_weighted()
  local stable = #credits == #ring
  for i, member in ipairs(ring) do
    total = total + member.weight
    stable = stable and credits[i].key == member.key and credits[i].weight == member.weight
  end
  if not stable then
    return rebase(total)
  end
  for i, member in ipairs(ring) do
    member.credit = credits[i].credit
  end
end

local function weighted()
  local whole = total * SCALE
  for _, member in ipairs(ring) do
    member.credit = member.credit + member.weight * SCALE
    member.owed = member.credit > 0
    member.closes = -floor_div(member.credit - whole, member.weight * SCALE)
  end
  local best = least(function(a, b)
    if a.owed ~= b.owed then
      return a.owed
    elseif a.closes ~= b.closes then
      return a.closes < b.closes
    elseif a.weight ~= b.weight then
      return a.weight > b.weight
    end
    return in_turn(a, b)
  end)
  best.credit = best.credit - whole
  return best
end

local function by_load(a, b)
  local a_load, b_load = a.calls * b.weight, b.calls * a.weight
  if a_load ~= b_load then
    return a_load < b_load
  end
  return in_turn(a, b)
end

local function choose()
  local chosen
  if strategy == 'weighted-round-robin' then
    chosen = weighted()
  elseif strategy == 'least-connections' then
    chosen = least(by_load)
  else
    chosen = least(in_turn)
  end
  last = chosen.ordinal
  return chosen
end

local function save_turn()
  redis.call('HSET', POOL, 'last', last)
  if strategy == 'weighted-round-robin' then
    local list = {}
    for i, member in ipairs(ring) do
      list[i] = string.format('%s %.0f %.0f', member.key, member.weight, member.credit)
    end
    redis.call('HSET', POOL, 'credits', table.concat(list, ' '))
  end
end

-- A member's own record and its credential's, where there are any, each with where it is kept.
local function records_of(member)
  local own, list = record_of(member.key), {}
  if records[own] then
    list[1] = { POOL, own, records[own] }
  end
  if credential_records[member.credential] then
    list[#list + 1] = { CREDENTIALS, member.credential, credential_records[member.credential] }
  end
  return list
end

if strategy == 'weighted-round-robin' then
  begin_weighted()
end

local function count(calls)
  for key, more in pairs(calls) do
    redis.call('HINCRBY', COUNTS, key .. '|' .. holder, more)
  end
  redis.call('ZADD', HOLDERS, string.format('%.0f', now + holder_ttl), holder)
  redis.call('PEXPIRE', COUNTS, state_ttl)
  redis.call('PEXPIRE', HOLDERS, state_ttl)
end

if turns_wanted > 0 then
  for _, member in ipairs(ring) do
    if member.due then
      return answer({ 4, now, 0, '' })
    end
  end
  local turns, begun, calls = {}, {}, {}
  for i = 1, turns_wanted do
    local member = choose()
    local kept = records_of(member)
    for _, place in ipairs(kept) do
      begin(place[3], now, '-', 0)
      begun[place[1] .. ' ' .. place[2]] = place
    end
    turns[i] = member.index .. (#kept > 0 and '!' or '')
    calls[member.key] = (calls[member.key] or 0) + 1
  end
  for _, place in pairs(begun) do
    save(place[1], place[2], place[3])
  end
  save_turn()
  redis.call('PEXPIRE', POOL, state_ttl)
  if not told_later then
    count(calls)
  end
  return answer({ 4, now, back and back - now or -1, table.concat(turns, ' ') })
end

local chosen = choose()
local trial, kept = 0, records_of(chosen)
for _, place in ipairs(kept) do
  if begin(place[3], now, lease, now + trial_ttl) then
    trial = 1
  end
  save(place[1], place[2], place[3])
end
save_turn()
redis.call('PEXPIRE', POOL, state_ttl)
if not told_later then
  count({ [chosen.key] = 1 })
end
if chosen.rpm > 0 or chosen.tpm > 0 then
  if chosen.rpm > 0 then
    add(USED, 'r:' .. chosen.key, now, 1)
  end
  if chosen.tpm > 0 then
    add(USED, 't:' .. chosen.key, now, tokens)
  end
  redis.call('PEXPIRE', USED, state_ttl)
end
return answer({ 1, chosen.index, now, trial, #kept > 0 and 1 or 0 })
