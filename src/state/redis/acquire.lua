-- Picks a member for each of some callers, one after the other, and counts them in flight. Writes the failure of an
-- attempt before. The rules are those of src/balance/pick.rs and src/balance/strategy/.
--
-- KEYS: 1 the pool's hash ("last", "credits" and the members' records), 2 the tenant's credential records, 3 the pool's
--       in-flight counts by member and holder, 4 the tenant's holders by the time they are alive until, 5 the pool's
--       windows of counts, 6 the pool's leases by the time they end, 7 the credits of a large pool, 8 the pool's line
-- ARGV: 1, 2 for plain.lua alone, 3 how many callers, 4 clock ahead (ms), 5 this replica, 6 its ttl (ms), 7 state ttl (ms),
--       8 the members in MessagePack, by columns: keys, ordinals, priorities, weights, and requests a minute, tokens a
--       minute and calls at once, which are nil where nobody has a limit,
--       9 in MessagePack a list of:
--       of the pool the strategy, whether in-flight counts matter, whether nothing but turn and records tells members
--       apart, whether it has a last resort, and whether callers wait for room;
--       the callers, each a list of lease, trial ttl in ms, tokens to reserve, whether it can go to no other pool, and where
--       it stands as stand.lua takes it;
--       the indices of the tried; the failure as `fail` takes it or an empty list; for a lease that ends by itself its ttl
--       (ms) and how many of these the pool may have, else an empty list,
--       10 in MessagePack two more columns: the names of the members' records and of their credentials'
-- Returns the time, two a caller, then three a member that cools: its index, ms left, class. No more than some of those who
-- cool are told at once, other ones each time. Where records were found that cannot be read, three more: -1, how many, "".
-- Two a caller are: the index
-- of its member and 0, 1 where that has a record, 2 where the call is its trial or joins it, 3 where it is of the last
-- resort; or -1 while a trial is running, and for one who waits in how many ms another call is let in, 0 where that is not
-- known; or -2 and "ms class" of who is back first, "" where one could serve another call. For one who waits and steps
-- aside -3 and -4; for one who waits for room how many do elsewhere follows the class. -5 and in how many ms one of the leases
-- ends where there are too many.

local POOL, CREDENTIALS, COUNTS, HOLDERS, USED, LEASES, TURN, LINE = unpack(KEYS)
local now, holder, state_ttl = clock(ARGV[4]), ARGV[5], ARGV[7]
local of_pool, callers, tries, failure, lasting = unpack(cmsgpack.unpack(ARGV[9]))
local strategy, counts_matter, alike, has_last_resort, waits = unpack(of_pool)
local lease_ttl, most_leases = unpack(lasting)
local choose = STRATEGIES[strategy]
if not choose then
  return redis.error_reply('ERR no such strategy: ' .. tostring(strategy))
end
if #failure > 0 then
  fail(POOL, CREDENTIALS, failure, 1, now)
  redis.call('PEXPIRE', CREDENTIALS, state_ttl)
end
if most_leases then
  end_leases(COUNTS, LEASES, now)
  if redis.call('ZRANGE', LEASES, most_leases - 1, most_leases - 1)[1] then
    return { now, -5, math.max(1, tonumber(redis.call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2]) - now) }
  end
end
local columns, tried = cmsgpack.unpack(ARGV[8]), {}
local keys, ordinals, priorities, weights, requests, tokens_a_minute, at_once = unpack(columns, 1, 7)
local count = #keys
for _, index in ipairs(tries) do
  tried[index + 1] = true
end

-- The records of the pool and of its credentials, by name, as Redis has them.
local turn, texts, credential_texts = { last = -1, keys = {}, weights = {}, credits = {} }, {}, {}
local names = {}
local stored = redis.call('HGETALL', POOL)
for i = 1, #stored, 2 do
  local name, value = stored[i], stored[i + 1]
  if name == 'last' then
    turn.last = tonumber(value) or -1
  elseif name == 'credits' then
    read_credits(turn, value)
  else
    names[#names + 1], texts[name] = name, value
  end
end
-- What a large pool keeps in another form is read and written in a tenth of the time.
local is_large = strategy == WEIGHTED_ROUND_ROBIN and count > LARGE
local packed = is_large and redis.call('HGET', TURN, 'credits')
if packed then
  turn.keys, turn.weights, turn.credits = unpack(cmsgpack.unpack(packed))
end
local has_credential_records = redis.call('EXISTS', CREDENTIALS) == 1
local has_records = #names > 0 or has_credential_records
local record_names, credential_names = {}, {}
if has_records then
  record_names, credential_names = unpack(cmsgpack.unpack(ARGV[10]))
end
if has_credential_records and count > 0 then
  for i, text in ipairs(redis.call('HMGET', CREDENTIALS, unpack(credential_names))) do
    credential_texts[credential_names[i]] = text or nil
  end
end

-- The records that were read in full, by name; false where one cannot be read.
local records, credential_records, broken = {}, {}, 0
local function read(all, key, name, text)
  local record = all[name]
  if record == nil and text then
    record = recall(key, name, text, now) or false
    all[name] = record
    if not record and not is_foreign(text) then
      broken = broken + 1
    end
  end
  return record or nil
end
local function own_record(i)
  local name = record_names[i]
  return read(records, POOL, name, texts[name])
end
local function shared_record(i)
  local name = credential_names[i]
  return read(credential_records, CREDENTIALS, name, credential_texts[name])
end

-- Forgets records that say nothing any more, and old ones that no member of the pool names: some at a time, other ones each
-- time. Another replica may know a member that this one does not know yet.
if #names > 0 then
  local named
  for at = 0, math.min(#names, AT_ONCE_ENDED) - 1 do
    local name = names[(now + at) % #names + 1]
    local record = read(records, POOL, name, texts[name])
    local goes = record and is_spent(record, now)
    if record and not goes and is_old(record, now) then
      if not named then
        named = {}
        for _, one in ipairs(record_names) do
          named[one] = true
        end
      end
      goes = not named[name]
    end
    if goes then
      redis.call('HDEL', POOL, name)
      texts[name], records[name] = nil, nil
    end
  end
end
if has_credential_records and count > 0 then
  for at = 0, math.min(count, AT_ONCE_ENDED) - 1 do
    local i = (now + at) % count + 1
    local record = shared_record(i)
    if record and is_spent(record, now) then
      local name = credential_names[i]
      redis.call('HDEL', CREDENTIALS, name)
      credential_texts[name], credential_records[name] = nil, nil
    end
  end
end
has_records = next(texts) ~= nil or next(credential_texts) ~= nil

local counts = counts_matter and in_flight(COUNTS, HOLDERS, LEASES, now) or {}

-- Its own record and its credential's, where there are any, each with where it is kept.
local function places_of(i)
  local places = {}
  if has_records then
    local own, shared = own_record(i), shared_record(i)
    if own then
      places[1] = { POOL, record_names[i], own }
    end
    if shared then
      places[#places + 1] = { CREDENTIALS, credential_names[i], shared }
    end
  end
  return places
end

-- Where that record stands, and while it cools until when, and why. One that cools is not read in full.
local function stands(text, record_at, i)
  -- Without a class it does not cool.
  if not text or string.sub(text, 14, 18) == ' 0 - ' then
    return AVAILABLE, 0, ''
  end
  local since, ends, class = string.match(text, RECORD_HEAD)
  if class == '-' then
    return AVAILABLE, 0, ''
  elseif since and now < tonumber(ends) and tonumber(since) <= now then
    return COOLING, tonumber(ends), class
  end
  local record = record_at(i)
  if record then
    return standing(record, now), record.ends, record.class
  end
  return AVAILABLE, 0, ''
end

-- Where a member stands, and while it cools until when, and why.
local states, ends_of, class_of = {}, {}, {}
local function cooldown_of(i)
  if not has_records then
    return AVAILABLE, 0, ''
  elseif states[i] then
    return states[i], ends_of[i], class_of[i]
  end
  local state, ends, class = stands(texts[record_names[i]], own_record, i)
  local shared_text = credential_texts[credential_names[i]]
  if not shared_text then
    states[i], ends_of[i], class_of[i] = state, state == COOLING and ends or 0, class
    return state, ends_of[i], class
  end
  local of_shared, shared_ends, shared_class = stands(shared_text, shared_record, i)
  if of_shared == COOLING and (state ~= COOLING or shared_ends > ends) then
    state, ends, class = COOLING, shared_ends, shared_class
  elseif state ~= COOLING then
    state, ends, class = math.max(state, of_shared), 0, ''
  end
  states[i], ends_of[i], class_of[i] = state, ends, class
  return state, ends, class
end

-- The windows of requests and of tokens of those who were looked at, by place: as Redis has them, and those that were read
-- in full.
local R, T = { field = 'r:', texts = {}, lists = {} }, { field = 't:', texts = {}, lists = {} }
R.limits, T.limits = requests, tokens_a_minute
-- Until about when members are full, as it was found, by tokens and place.
local found = {}
-- Blocks like this one keep to themselves what nobody else needs: a script may have 200 names.
local window_of, full_until, has_room
do
  -- All windows by field, once many are looked at. One by one they would be dear to find in a small hash.
  local all
  local function window_text(of, i)
    local text = of.texts[i]
    if text == nil then
      local field = of.field .. keys[i]
      if all then
        text = all[field] or ''
      else
        text = redis.call('HGET', USED, field) or ''
      end
      of.texts[i] = text
    end
    return text
  end
  function window_of(of, i)
    local list = of.lists[i]
    if not list then
      list = parse_window(window_text(of, i))
      of.lists[i] = list
    end
    return list
  end

  -- The texts before which those of windows come that have room for an amount, by amount and limit.
  local thresholds = {}
  local function thresholds_of(amount)
    local of_amount = thresholds[amount]
    if not of_amount then
      of_amount = setmetatable({}, { __index = function(all, limit)
        all[limit] = has_room_before(limit, amount)
        return all[limit]
      end })
      thresholds[amount] = of_amount
    end
    return of_amount
  end

  -- Until when its limit of so many a minute leaves no room for `amount`: 0 where there is room. `exactly`, or about: then not
  -- before that.
  local oldest_known = {}
  local function limited_until(of, i, amount, exactly)
    local limit = of.limits[i]
    if limit == 0 then
      return 0
    elseif not of.lists[i] then
      local text = window_text(of, i)
      if text < thresholds_of(amount)[limit] then
        return 0
      end
      local oldest = not exactly and oldest_of(text, now, oldest_known)
      if oldest then
        return (oldest + BUCKETS) * BUCKET
      end
    end
    return room(window_of(of, i), now, limit, amount)
  end

  -- Until about when a member is at one of its limits; 0 where it is not. See `limited_until`.
  function full_until(i, tokens, exactly)
    if not requests then
      return 0
    end
    local full, other = limited_until(R, i, 1, exactly), limited_until(T, i, tokens, exactly)
    if other > full then
      full = other
    end
    if at_once[i] > 0 and (counts[keys[i]] or 0) >= at_once[i] and now + CONCURRENCY_PAUSE > full then
      full = now + CONCURRENCY_PAUSE
    end
    return full
  end

  -- The same about of one window, where its text tells; else nil.
  local function about(of, i, before)
    if of.lists[i] then
      return nil
    end
    local text = of.texts[i] or window_text(of, i)
    if text < before then
      return 0
    end
    local oldest = oldest_known[string.sub(text, 15, 44)]
    return oldest and (oldest + BUCKETS) * BUCKET or nil
  end
  -- Looks at all members. Of most the texts alone tell.
  local function look_at_all(of_tokens, tokens)
    if not all then
      all = {}
      local stored = redis.call('HGETALL', USED)
      for i = 1, #stored, 2 do
        all[stored[i]] = stored[i + 1]
      end
    end
    local r_before, t_before = thresholds_of(1), thresholds_of(tokens)
    for i = 1, count do
      local r, t = requests[i], tokens_a_minute[i]
      local full = r == 0 and 0 or about(R, i, r_before[r])
      local other = t == 0 and 0 or about(T, i, t_before[t])
      if not full or not other or at_once[i] > 0 and (counts[keys[i]] or 0) >= at_once[i] then
        of_tokens[i] = full_until(i, tokens, false)
      else
        of_tokens[i] = other > full and other or full
      end
    end
  end
  -- Whether a member has room. Where many are looked at, all are.
  local looked, all_seen = 0, {}
  function has_room(i, tokens)
    if not requests then
      return true
    end
    local of_tokens = found[tokens]
    if not of_tokens then
      of_tokens = {}
      found[tokens] = of_tokens
    end
    local full = of_tokens[i]
    if not full then
      looked = looked + 1
      if looked > AT_ONCE_ENDED and not all_seen[tokens] then
        all_seen[tokens] = true
        look_at_all(of_tokens, tokens)
      else
        of_tokens[i] = full_until(i, tokens, false)
      end
      full = of_tokens[i]
    end
    return full == 0
  end
end

-- From when on a pool all of whose members cool may call which of them, for one who has tried those; nil where it has
-- nobody to call.
local function last_resort(tokens, tried)
  if not has_records then
    return nil
  end
  local passed, pace, oldest, chosen = nil, PACE, nil, nil
  for i = 1, count do
    local state = cooldown_of(i)
    if state ~= COOLING and state ~= TRIAL_RUNNING then
      return nil
    end
    local text = texts[record_names[i]]
    -- The last words of one that is no guess.
    local own = text and string.sub(text, -6) ~= ' 0 0 0' and own_record(i) or records[record_names[i]]
    if own and own.failed > 0 and stands(credential_texts[credential_names[i]], shared_record, i) == AVAILABLE then
      passed, pace = math.max(passed or 0, own.passed), math.min(pace, PACE / 2 ^ math.min(own.served, PROOF))
      if not tried[i] and (not oldest or own.failed < oldest) and has_room(i, tokens) then
        oldest, chosen = own.failed, i
      end
    end
  end
  return chosen and passed + pace, chosen
end

local refuse, first_untried
do
  -- The first to be back, without the excluded, and why it is away; nil where nobody is away. A look at all windows would
  -- cost too much: those who cannot be first are not read.
  local function first_back(excluded, tokens)
    local about, first = {}, nil
    for i = 1, count do
      local _, ends = cooldown_of(i)
      if not has_room(i, tokens) and found[tokens][i] > ends then
        ends = found[tokens][i]
      end
      about[i] = excluded[i] and 0 or ends
      if about[i] > 0 and (not first or about[i] < about[first]) then
        first = i
      end
    end
    local back, back_class, place = nil, '', nil
    local function look(i)
      local _, ends, class = cooldown_of(i)
      local full = full_until(i, tokens, true)
      if full > ends then
        ends, class = full, RATE_LIMITED
      end
      -- Of those who are back together, it is the first by place.
      if not back or ends < back or (ends == back and i < place) then
        back, back_class, place = ends, class, i
      end
    end
    if first then
      look(first)
      for i = 1, count do
        if i ~= first and about[i] > 0 and (about[i] < back or (about[i] == back and i < place)) then
          look(i)
        end
      end
    end
    return back, back_class
  end

  -- What a caller is told whom nobody can serve. Its last resort is due at that time, where it has one.
  function refuse(tokens, resort)
    local waiting, someone_could = false, false
    for i = 1, count do
      local state, ends = cooldown_of(i)
      if ends == 0 and has_room(i, tokens) then
        someone_could = true
        waiting = waiting or (not tried[i] and (state == TRIAL_RUNNING or state == JOINABLE))
      end
    end
    if waiting then
      return -1, 0
    elseif someone_could then
      return -2, ''
    end
    local back, back_class = first_back({}, tokens)
    return -2, back and string.format('%.0f %s', math.min(back, resort or back) - now, back_class) or ''
  end

  -- The first to come back of those not tried, or the last resort, where that is due sooner.
  function first_untried(tokens, resort)
    local back, back_class = first_back(tried, tokens)
    return back and string.format('%.0f %s', math.min(back, resort or back) - now, back_class) or ''
  end
end

local pool = { count = count, keys = keys, ordinals = ordinals, priorities = priorities, weights = weights, tried = tried,
  calls = counts }
local choose_for
do
  local function choose_among(worst, best, tokens)
    if best > AVAILABLE and not has_records then
      return nil
    end
    if not alike or pool.best ~= best then
      pool.ring, pool.best = nil, best
    end
    pool.may = function(i)
      if not has_records then
        return has_room(i, tokens)
      end
      local state = cooldown_of(i)
      return state >= best and state <= worst and has_room(i, tokens)
    end
    return choose(pool, turn)
  end

  -- The place of who serves a caller, and 3 where it is of the last resort, else 0; or nil, and when that is due.
  function choose_for(tokens, is_last)
    local index = choose_among(HALF_OPEN, AVAILABLE, tokens)
    if not index and is_last then
      index = choose_among(JOINABLE, JOINABLE, tokens)
    end
    if index then
      turn.last = ordinals[index]
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
end

-- Whether somebody could serve one who has tried those.
local function has_place(tokens, is_last, tried)
  local worst = is_last and JOINABLE or HALF_OPEN
  for i = 1, count do
    if not tried[i] and cooldown_of(i) <= worst and has_room(i, tokens) then
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

-- In how long a trial takes another call, or the last resort is due; 0 where that is not known.
local function opens_in(tokens, is_last, resort)
  local first = resort
  for i = 1, count do
    if is_last and not tried[i] and cooldown_of(i) == TRIAL_RUNNING and has_room(i, tokens) then
      local at = 0
      for _, place in ipairs(places_of(i)) do
        at = math.max(at, opens(place[3], now))
      end
      first = math.min(first or at, at)
    end
  end
  return first and first - now or 0
end

-- Nobody waits for a trial where nobody has failed.
local line = (waits or has_records) and look_at_line(LINE, holder, now)
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
    local key = keys[index]
    for _, place in ipairs(places_of(index)) do
      kind = math.max(kind, begin(place[3], now, lease, now + trial_ttl) and 2 or 1)
      begun[place[1] .. ' ' .. place[2]] = place
    end
    if kind >= 2 then
      -- It is one caller's: others may not have this member now.
      pool.ring, refused, states = nil, {}, {}
    end
    counts[key] = (counts[key] or 0) + 1
    calls[key] = (calls[key] or 0) + 1
    if requests then
      for _, of in ipairs({ R, T }) do
        if of.limits[index] > 0 then
          add(window_of(of, index), now, of == R and 1 or tokens)
          changed[of.field .. key] = of.lists[index]
        end
      end
      for _, of_tokens in pairs(found) do
        of_tokens[index] = nil
      end
    end
    if most_leases then
      redis.call('ZADD', LEASES, string.format('%.0f', now + lease_ttl), key .. '|' .. lease)
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
  if is_large then
    redis.call('HSET', TURN, 'credits', cmsgpack.pack({ turn.keys, turn.weights, turn.credits }))
    redis.call('PEXPIRE', TURN, state_ttl)
  elseif #turn.credits > 0 then
    redis.call('HSET', POOL, 'credits', credits_text(turn))
  end
  redis.call('PEXPIRE', POOL, state_ttl)
  local counted, alive_until = holder, now + tonumber(ARGV[6])
  if most_leases then
    counted, alive_until = ALL_LEASES, LAST
    redis.call('PEXPIRE', LEASES, state_ttl)
  end
  for key, more in pairs(calls) do
    redis.call('HINCRBY', COUNTS, key .. '|' .. counted, more)
  end
  redis.call('ZADD', HOLDERS, string.format('%.0f', alive_until), counted)
  redis.call('PEXPIRE', COUNTS, state_ttl)
  redis.call('PEXPIRE', HOLDERS, state_ttl)
end
if next(changed) then
  for field, list in pairs(changed) do
    save_window(USED, field, list)
  end
  redis.call('PEXPIRE', USED, state_ttl)
end
if has_records then
  -- Of those with a record some are looked at, beginning anywhere.
  local looks = 0
  for at = 0, count - 1 do
    local i = (now + at) % count + 1
    if texts[record_names[i]] or credential_texts[credential_names[i]] then
      local _, ends, class = cooldown_of(i)
      if ends > 0 then
        table.insert(answer, i - 1)
        table.insert(answer, ends - now)
        table.insert(answer, class)
      end
      looks = looks + 1
      if looks == MOST_TOLD then
        break
      end
    end
  end
end
if broken > 0 then
  table.insert(answer, -1)
  table.insert(answer, broken)
  table.insert(answer, '')
end
return answer
