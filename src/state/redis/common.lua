-- What every script shares: records of failures, with the rules of src/balance/record.rs.
--
-- A record is the text "since until class streak trial_lease trial_until"; times are milliseconds of Redis's own
-- clock, 0 means never, "-" means none. Records live in hashes, the members' in that of their pool, the credentials'
-- in that of their tenant. Only what has failed has one.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function parse(text)
  if not text then
    return nil
  end
  local since, ends, class, streak, lease, lease_ends =
    string.match(text, '^(%d+) (%d+) (%S+) (%d+) (%S+) (%d+)$')
  if not since then
    return nil
  end
  return {
    since = tonumber(since),
    ends = tonumber(ends),
    class = class,
    streak = tonumber(streak),
    lease = lease,
    lease_ends = tonumber(lease_ends),
  }
end

local function blank()
  return { since = 0, ends = 0, class = '-', streak = 0, lease = '-', lease_ends = 0 }
end

local function save(key, field, record)
  if record.class == '-' and record.streak == 0 then
    redis.call('HDEL', key, field)
  else
    redis.call('HSET', key, field, string.format('%.0f %.0f %s %.0f %s %.0f',
      record.since, record.ends, record.class, record.streak, record.lease, record.lease_ends))
  end
end

-- 0 available, 1 half-open, 2 trial running, 3 cooling: the higher is the worse.
local function standing(record, now)
  if not record or record.class == '-' then
    return 0
  elseif now < record.ends then
    return 3
  elseif record.lease ~= '-' and now < record.lease_ends then
    return 2
  end
  return 1
end

local function end_trial(record, lease)
  if record.lease ~= lease then
    return false
  end
  record.lease, record.lease_ends = '-', 0
  return true
end

local function fail_record(record, now, began, lease, duration, hinted, trip_after, class)
  local was_trial = end_trial(record, lease)
  local late = record.class ~= '-' and began < record.since and not was_trial
  if late and not hinted then
    return
  end
  record.streak = record.streak + 1
  if not was_trial and record.streak < trip_after then
    return
  end
  local ends = now + duration
  if record.class == '-' or now >= record.ends then
    record.since = now
  end
  if ends > record.ends then
    record.ends, record.class = ends, class
  end
  record.streak, record.lease, record.lease_ends = 0, '-', 0
end

-- Changes a record that exists.
local function change(key, field, apply)
  local record = parse(redis.call('HGET', key, field))
  if record then
    apply(record)
    save(key, field, record)
  end
end

local function hand_on(pool, credentials, member, credential, lease)
  local apply = function(record)
    end_trial(record, lease)
  end
  change(pool, member, apply)
  change(credentials, credential, apply)
end

-- Writes a failure. args[first ..]: lease, member, credential, scope ("member" or "credential"), began, duration,
-- hinted ("1"), trip_after, class.
local function fail(pool, credentials, args, first, now)
  local lease, member, credential = args[first], args[first + 1], args[first + 2]
  local key, field = pool, member
  if args[first + 3] == 'credential' then
    key, field = credentials, credential
  end
  local record = parse(redis.call('HGET', key, field)) or blank()
  fail_record(record, now, tonumber(args[first + 4]), lease, tonumber(args[first + 5]), args[first + 6] == '1',
    tonumber(args[first + 7]), args[first + 8])
  save(key, field, record)
  -- A trial that was taken on the other record as well has had its verdict.
  hand_on(pool, credentials, member, credential, lease)
end
