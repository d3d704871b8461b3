-- What every script shares: the clock, records of failures, windows of counts. The rules are those of
-- src/balance/record.rs and src/balance/limit.rs. script.rs writes their numbers and names before this, as constants.
--
-- Times are milliseconds of Redis's own clock, 0 means never. A record is one word each of FIELDS, in their order, "-" for
-- none. A record of an older release has fewer words; those it lacks are 0. Records live in hashes, the members' in that of
-- their pool, the credentials' in that of their tenant. Only what has failed has one.
--
-- A record that begins with something else than a number is of a format that this release does not know. It is left alone, and
-- its member counts as one that has not failed. A record that no release can have written is broken: it counts as none, and
-- the next write takes its place.

-- How far a test's or a simulation's clock is ahead; where that is negative, its clock stands still at so many milliseconds.
local function clock(ahead)
  ahead = tonumber(ahead)
  if ahead < 0 then
    return -ahead
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + ahead
end

local function words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do
    list[#list + 1] = word
  end
  return list
end

local function blank()
  return { since = 0, ends = 0, class = '-', streak = 0, lease = '-', lease_ends = 0, episodes = 0, healthy = 0,
    window = 0, calls = 0, fails = 0, took = 0, trial_began = 0, joined = 0, failed = 0, passed = 0, served = 0 }
end

-- All words of a record in one go, and the first of them.
local RECORD_OF_NOW = '^' .. string.rep('(%S+) ', #FIELDS - 1) .. '(%S+)$'
local RECORD_HEAD = '^(%d+) (%d+) (%S+) '

-- Whether a record is of a format that this release does not know.
local function is_foreign(text)
  return string.find(text, '^%D') ~= nil
end

-- The record; nil where there is none, or none that can be read.
local function parse(text)
  if not text or is_foreign(text) then
    return nil
  end
  local list, record = { string.match(text, RECORD_OF_NOW) }, {}
  if not list[1] then
    list = words(text)
  end
  for i, field in ipairs(FIELDS) do
    local word = list[i]
    if field ~= 'class' and field ~= 'lease' then
      word = tonumber(word or (i > FIELDS_AT_FIRST and 0 or nil))
      if not word or not (word >= 0 and word < 2 ^ 53) then
        return nil
      end
    elseif not word then
      return nil
    end
    record[field] = word
  end
  return record
end

local function save(key, field, record)
  local list = {}
  for i, name in ipairs(FIELDS) do
    local value = record[name]
    list[i] = type(value) == 'number' and string.format('%.0f', value) or value
  end
  redis.call('HSET', key, field, table.concat(list, ' '))
end

-- The record as it stands at `now`. Where Redis's clock has been set back, the past of a record lies ahead: all its times
-- move back with the clock, so that a cooldown never lasts longer than it was meant to.
local PAST = { 'since', 'ends', 'lease_ends', 'healthy', 'window', 'trial_began', 'failed', 'passed' }

local function recall(key, field, text, now)
  local record = parse(text)
  local ahead = record and math.max(record.since, record.healthy, record.window) - now or 0
  if ahead > 0 then
    for _, name in ipairs(PAST) do
      if record[name] > 0 then
        record[name] = math.max(1, record[name] - ahead)
      end
    end
    save(key, field, record)
  end
  return record
end

-- Whether a trial lets another call in: one more when it has lived as long as the failure took, then two, then four. Of a
-- trial that an older release has begun that is not known.
local function lets_in(record, now)
  if record.trial_began == 0 then
    return false
  end
  local steps = math.floor(math.max(0, now - record.trial_began) / math.max(record.took, TRIAL_STEP))
  return record.joined < 2 ^ math.min(steps, MAX_TRIAL_STEPS) - 1
end

-- When one more call may be let in, while a trial on its way lets in none: beside it, or in its place. 0 where there is no
-- such trial.
local function opens(record, now)
  if record.lease == '-' or now < record.ends or lets_in(record, now) then
    return 0
  end
  local steps = 1
  while 2 ^ steps - 1 <= record.joined do
    steps = steps + 1
  end
  if record.trial_began == 0 or steps > MAX_TRIAL_STEPS then
    return record.lease_ends
  end
  return math.min(record.lease_ends, record.trial_began + steps * math.max(record.took, TRIAL_STEP))
end

local function standing(record, now)
  if not record or record.class == '-' then
    return AVAILABLE
  elseif now < record.ends then
    return COOLING
  elseif record.lease ~= '-' and now < record.lease_ends then
    return lets_in(record, now) and JOINABLE or TRIAL_RUNNING
  end
  return HALF_OPEN
end

local function episodes_left(record, now)
  if record.healthy == 0 then
    return record.episodes
  end
  return math.max(0, record.episodes - math.floor(math.max(0, now - record.healthy) / EPISODE_DECAY))
end

-- Whether nothing has happened to it for long.
local function is_old(record, now)
  return now >= math.max(record.window, record.healthy, record.since, record.ends) + KEPT
end

local function is_spent(record, now)
  return record.class == '-' and episodes_left(record, now) == 0
    and now >= math.max(record.window, record.healthy, record.since) + KEPT
end

local function roll_window(record, now)
  if now >= record.window + SHARE_WINDOW then
    record.window, record.calls, record.fails = now, 0, 0
  end
end

local function quiet(record)
  record.streak, record.calls, record.fails = 0, 0, 0
  record.lease, record.lease_ends, record.trial_began, record.joined = '-', 0, 0, 0
end

local function end_trial(record, lease)
  if record.lease ~= lease then
    return false
  end
  record.lease, record.lease_ends, record.trial_began, record.joined = '-', 0, 0, 0
  return true
end

local function begin(record, now, lease, lease_ends)
  roll_window(record, now)
  record.calls = record.calls + 1
  if record.class == '-' then
    return false
  end
  local state = standing(record, now)
  if state == HALF_OPEN then
    if record.lease == '-' or record.trial_began == 0 then
      record.trial_began, record.joined = now, 0
    end
    record.lease, record.lease_ends = lease, lease_ends
  elseif state ~= COOLING then
    record.joined = record.joined + 1
  end
  if record.failed > 0 then
    record.passed = now
  end
  return true
end

-- Whether a call that began then tries whether the cooldown may end.
local function is_tried_by(record, began)
  return record.class ~= '-' and record.since < began
end

local function recover(record, now)
  record.class, record.ends, record.healthy = '-', 0, now
  record.failed, record.passed, record.served = 0, 0, 0
  quiet(record)
end

local function fail_record(record, now, began, trial, rule)
  local was_trial = end_trial(record, trial) or is_tried_by(record, began)
  local late = began < record.since and not was_trial
  if late and (not rule.hinted or record.class == '-') then
    return
  end
  roll_window(record, now)
  record.streak, record.fails = record.streak + 1, record.fails + 1
  local share = record.calls >= SHARE_VOLUME and record.fails * SHARE >= record.calls
  if not was_trial and record.streak < rule.trip_after and not share then
    return
  end
  local running = record.class ~= '-' and now < record.ends
  if not running then
    record.since = now
  end
  local length = rule.duration
  if rule.grows then
    length = length * 2 ^ episodes_left(record, now)
  end
  local ends = now + math.min(length, rule.max)
  if ends > record.ends or record.class == '-' then
    record.ends, record.class = ends, rule.class
  end
  record.took = math.max(0, now - began)
  if rule.is_guess and (not running or record.failed > 0) then
    record.passed = (running and record.passed > 0) and record.passed or now
    record.failed, record.served = now, 0
  else
    record.failed, record.passed, record.served = 0, 0, 0
  end
  if not running and rule.grows then
    record.episodes = math.min(episodes_left(record, now) + 1, MAX_EPISODES)
  end
  record.healthy = 0
  quiet(record)
end

-- Changes a record that exists and can be read.
local function change(key, field, apply)
  local record = parse(redis.call('HGET', key, field))
  if record then
    apply(record)
    save(key, field, record)
  end
end

-- Changes a member's record and its credential's, where they exist.
local function change_both(pool, credentials, record, credential, apply)
  change(pool, record, apply)
  change(credentials, credential, apply)
end

local function hand_on(pool, credentials, record, credential, lease)
  change_both(pool, credentials, record, credential, function(one)
    end_trial(one, lease)
  end)
end

-- Ends the cooldown that the call tried, or a row of failures that had not tripped.
local function succeed(pool, credentials, record, credential, lease, began, now)
  began = tonumber(began)
  change_both(pool, credentials, record, credential, function(one)
    if one.class == '-' then
      one.streak = 0
      return
    elseif not end_trial(one, lease) and not is_tried_by(one, began) then
      return
    end
    if now < one.ends then
      if one.failed == 0 then
        return
      end
      one.served = one.served + 1
      if one.served < PROOF then
        return
      end
    end
    recover(one, now)
    one.since = math.max(one.since, began)
  end)
end

-- Writes a failure. args[first ..]: the lease of the trial that it was or "", record, credential, scope ("member" or
-- "credential"), began, duration, max, grows ("1"), hinted ("1"), trip_after, class, whether it is a guess ("1").
local function fail(pool, credentials, args, first, now)
  local trial, own, credential, scope, began, duration, max, grows, hinted, trip_after, class, is_guess =
    unpack(args, first, first + 11)
  local key, field = pool, own
  if scope == 'credential' then
    key, field = credentials, credential
  end
  local rule = { duration = tonumber(duration), max = tonumber(max), grows = grows == '1', hinted = hinted == '1',
    trip_after = tonumber(trip_after), class = class, is_guess = is_guess == '1' }
  local text = redis.call('HGET', key, field)
  if not text or not is_foreign(text) then
    local record = recall(key, field, text, now) or blank()
    fail_record(record, now, tonumber(began), trial, rule)
    save(key, field, record)
  end
  if trial ~= '' then
    -- One that was taken on the other record as well has had its verdict.
    hand_on(pool, credentials, own, credential, trial)
  end
end

-- A window is the text "bucket count bucket count …", oldest first. Before that stand its total and its newest bucket, so
-- that few windows need be read in full: to read one costs more than all else that a pick does with a member. They have a
-- fixed width, so that texts compare as totals do. An older release takes these words for buckets long past, and writes them
-- in another form: then they are not believed.
local SUMMARY = '0x0 %010.0f.5 0x0 %010.0f.5 '

-- A window that cannot be read counts as empty.
local function parse_window(text)
  local list = words(string.match(text, '^0x0 %d+%.5 0x0 %d+%.5 (.*)') or text)
  for i = 1, #list do
    list[i] = tonumber(list[i])
    if not list[i] then
      return {}
    end
  end
  return #list % 2 == 0 and list or {}
end

local function window(key, field)
  return parse_window(redis.call('HGET', key, field) or '')
end

local function save_window(key, field, list)
  local texts, total = {}, 0
  for i, number in ipairs(list) do
    texts[i] = string.format('%.0f', number)
    total = total + (i % 2 == 0 and number or 0)
  end
  local summary = string.format(SUMMARY, total, list[#list - 1] or 0)
  redis.call('HSET', key, field, summary .. table.concat(texts, ' '))
end

-- A count that lies ahead is of before the clock was set back.
local function is_counted(counted, bucket)
  return counted + BUCKETS > bucket and counted <= bucket
end

-- The text before which those of windows come that have room for `amount` for certain. An empty window has room for anything.
local function has_room_before(limit, amount)
  return string.format('0x0 %010.0f', math.max(0, limit - amount) + 1)
end

-- The oldest bucket of a window whose summary says that it is full; nil where that cannot be believed, since some of it may
-- be over. Many windows are of the same time, and `known` holds what was found of them.
local function oldest_of(text, now, known)
  local head = string.sub(text, 15, 44)
  local oldest = known[head]
  if oldest == nil then
    local newest
    newest, oldest = string.match(head, '^%.5 0x0 (%d+)%.5 (%d+) ')
    local bucket = math.floor(now / BUCKET)
    oldest = newest and tonumber(newest) <= bucket and is_counted(tonumber(oldest), bucket) and tonumber(oldest)
    known[head] = oldest or false
  end
  return oldest or nil
end

local function add(list, now, amount)
  local bucket = math.floor(now / BUCKET)
  for i = #list - 1, 1, -2 do
    if not is_counted(list[i], bucket) then
      table.remove(list, i)
      table.remove(list, i)
    end
  end
  if list[#list - 1] == bucket then
    list[#list] = list[#list] + amount
  else
    table.insert(list, bucket)
    table.insert(list, amount)
  end
end

-- Counts what was used then.
local function bring(list, now, at, amount)
  add(list, now, 0)
  local bucket, place = math.floor(at / BUCKET), 1
  while list[place] and list[place] < bucket do
    place = place + 2
  end
  if list[place] == bucket then
    list[place + 1] = list[place + 1] + amount
  elseif is_counted(bucket, math.floor(now / BUCKET)) then
    table.insert(list, place, amount)
    table.insert(list, place, bucket)
  end
end

-- When `amount` more fits: 0 now, else the time.
local function room(list, now, limit, amount)
  local bucket, total, free_at = math.floor(now / BUCKET), 0, 0
  for i = 1, #list, 2 do
    if is_counted(list[i], bucket) then
      total = total + list[i + 1]
    end
  end
  for i = 1, #list, 2 do
    if is_counted(list[i], bucket) then
      if total == 0 or total + amount <= limit then
        break
      end
      total = total - list[i + 1]
      free_at = (list[i] + BUCKETS) * BUCKET
    end
  end
  return free_at
end

local function settle(used, member, began, reserved, actual)
  local field = 't:' .. member
  local bucket, list = math.floor(tonumber(began) / BUCKET), window(used, field)
  for i = 1, #list, 2 do
    if list[i] == bucket then
      list[i + 1] = math.max(0, list[i + 1] + tonumber(actual) - tonumber(reserved))
      save_window(used, field, list)
      return
    end
  end
end

local function credits_text(turn)
  local list = {}
  for at, credit in ipairs(turn.credits) do
    list[3 * at - 2], list[3 * at - 1], list[3 * at] = turn.keys[at], turn.weights[at], credit
  end
  return table.concat(list, ' ')
end

-- The holder of all leases that end by themselves. It never dies; each lease stands in the pool's sorted set of leases as
-- "member|lease" by the time at which it ends.
local ALL_LEASES = 'lease:all'

local function give_back(counts, member)
  local field = member .. '|' .. ALL_LEASES
  if redis.call('HINCRBY', counts, field, -1) <= 0 then
    redis.call('HDEL', counts, field)
  end
end

-- Gives back what leases hold that are over, of so many at most: each run has its share of what has piled up.
local function end_leases(counts, leases, now)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.0f', now), 'LIMIT', 0, AT_ONCE_ENDED)) do
    redis.call('ZREM', leases, entry)
    give_back(counts, string.match(entry, '^(.*)|') or '')
  end
end

-- Calls in flight by member, of holders that are alive: replicas, all leases together, and leases of an older release, which
-- are holders of their own. Holders of other pools are not looked at. Those of the dead are removed.
local function in_flight(counts, holders, leases, now)
  end_leases(counts, leases, now)
  local alive, result, tail, holder = {}, {}, '', nil
  local stored = redis.call('HGETALL', counts)
  for i = 1, #stored, 2 do
    local field, member = stored[i], nil
    -- Most are of one holder.
    if holder and string.sub(field, -#tail) == tail then
      member = string.sub(field, 1, -#tail - 1)
    else
      member, holder = string.match(field, '^(.*)|(.*)$')
      tail = '|' .. (holder or '')
    end
    if holder == ALL_LEASES and alive[holder] == nil then
      -- Where there is none, nothing is held.
      alive[holder] = redis.call('ZRANGE', leases, 0, 0)[1] ~= nil
    elseif holder and alive[holder] == nil then
      alive[holder] = (tonumber(redis.call('ZSCORE', holders, holder) or 0) or 0) > now
    end
    if holder and alive[holder] then
      result[member] = (result[member] or 0) + (tonumber(stored[i + 1]) or 0)
    else
      redis.call('HDEL', counts, field)
    end
  end
  return result
end
