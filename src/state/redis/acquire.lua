-- Writes the failure of the attempt before, picks a member by the rules of src/balance/pick.rs, counts it in flight.
--
-- KEYS: 1 the pool's hash ("last" and the members' records), 2 the tenant's credential records, 3 the pool's
--       in-flight counts, 4 the tenant's replicas by the time they are alive until
-- ARGV: 1 lease, 2 replica, 3 trial ttl, 4 replica ttl, 5 state ttl (all ms), 6 whether a failure follows ("1");
--       then the failure's nine, as `fail` takes them; then four a member: key, ordinal, priority, credential, with a
--       tried member's key behind a "!"
-- Returns {1, index, began, trial, marked} | {2} trial running | {3, ms until the first is back or -1, its class}

local lease, replica = ARGV[1], ARGV[2]
local now = now_ms()
local first = 7
if ARGV[6] == '1' then
  fail(KEYS[1], KEYS[2], ARGV, first, now)
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  first = first + 9
end

local last, records = -1, {}
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  if stored[i] == 'last' then
    last = tonumber(stored[i + 1])
  else
    records[stored[i]] = parse(stored[i + 1])
  end
end

local credential_records = {}
if redis.call('EXISTS', KEYS[2]) == 1 then
  local names = {}
  for i = first, #ARGV, 4 do
    names[#names + 1] = ARGV[i + 3]
  end
  if #names > 0 then
    for i, text in ipairs(redis.call('HMGET', KEYS[2], unpack(names))) do
      credential_records[names[i]] = parse(text)
    end
  end
end

local best, best_priority, best_behind, best_ordinal
local waiting, all_cooling, back, back_class = false, true, nil, ''
for i = first, #ARGV, 4 do
  local key, ordinal, priority = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local tried = string.sub(key, 1, 1) == '!'
  if tried then
    key = string.sub(key, 2)
  end
  local own, shared = records[key], credential_records[ARGV[i + 3]]
  local state = math.max(standing(own, now), standing(shared, now))
  if state == 3 then
    local ends, class = 0, ''
    if standing(own, now) == 3 then
      ends, class = own.ends, own.class
    end
    if standing(shared, now) == 3 and shared.ends > ends then
      ends, class = shared.ends, shared.class
    end
    if not back or ends < back then
      back, back_class = ends, class
    end
  else
    all_cooling = false
    if not tried and state == 2 then
      waiting = true
    elseif not tried then
      local behind = ordinal <= last and 1 or 0
      local better = not best
      if best then
        if priority ~= best_priority then
          better = priority < best_priority
        elseif behind ~= best_behind then
          better = behind < best_behind
        else
          better = ordinal < best_ordinal
        end
      end
      if better then
        best, best_priority, best_behind, best_ordinal = i, priority, behind, ordinal
      end
    end
  end
end

if not best then
  if waiting then
    return { 2 }
  elseif all_cooling and back then
    return { 3, back - now, back_class }
  end
  return { 3, -1, '' }
end

local key, credential = ARGV[best], ARGV[best + 3]
local own, shared = records[key], credential_records[credential]
local trial, marked = 0, 0
for _, place in ipairs({ { KEYS[1], key, own }, { KEYS[2], credential, shared } }) do
  local record = place[3]
  if record then
    marked = 1
    if standing(record, now) == 1 then
      trial = 1
      record.lease, record.lease_ends = lease, now + tonumber(ARGV[3])
      save(place[1], place[2], record)
    end
  end
end
redis.call('HSET', KEYS[1], 'last', ARGV[best + 1])
redis.call('HINCRBY', KEYS[3], key .. '|' .. replica, 1)
redis.call('ZADD', KEYS[4], string.format('%.0f', now + tonumber(ARGV[4])), replica)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return { 1, (best - first) / 4, now, trial, marked }
