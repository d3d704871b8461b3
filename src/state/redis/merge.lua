-- Brings cooldowns that a replica has seen alone: the later end wins.
-- KEYS: 1 the pool's hash, 2 the tenant's credential records.
-- ARGV: 1 clock ahead, 2 state ttl (ms), then four a record: "member" or "credential", its field, ms left, class.
local now = clock(ARGV[1])
for i = 3, #ARGV, 4 do
  local key = ARGV[i] == 'credential' and KEYS[2] or KEYS[1]
  local text = redis.call('HGET', key, ARGV[i + 1])
  local record = parse(text) or blank()
  local ends = now + tonumber(ARGV[i + 2])
  if (not text or not is_foreign(text)) and (record.class == '-' or record.ends < ends) then
    if record.class == '-' or now >= record.ends then
      record.since = now
    end
    record.ends, record.class, record.healthy = ends, ARGV[i + 3], 0
    -- How it came about is not known any more: it is no guess.
    record.failed, record.passed, record.served = 0, 0, 0
    quiet(record)
    save(key, ARGV[i + 1], record)
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
