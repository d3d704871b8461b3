-- What an operator or a health check does to a cooldown.
-- KEYS: 1 the pool's hash, 2 the tenant's credential records, 3 the pool's line.
-- ARGV: 1 clock ahead, 2 state ttl (ms), 3 record, 4 credential, 5 "set", "clear" or "recover"; "set": 6 duration (ms),
-- 7 class; "recover": 6 the classes that a health check ends, each between spaces
local now = clock(ARGV[1])
if ARGV[5] == 'set' then
  local record = blank()
  record.since, record.ends, record.class = now, now + tonumber(ARGV[6]), ARGV[7]
  save(KEYS[1], ARGV[3], record)
elseif ARGV[5] == 'clear' then
  local cleared = blank()
  cleared.since, cleared.healthy = now, now
  save(KEYS[1], ARGV[3], cleared)
  if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 1 then
    save(KEYS[2], ARGV[4], cleared)
  end
else
  change_both(KEYS[1], KEYS[2], ARGV[3], ARGV[4], function(record)
    if string.find(ARGV[6], ' ' .. record.class .. ' ', 1, true) then
      recover(record, now)
    end
  end)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
tell(KEYS[3])
return 1
