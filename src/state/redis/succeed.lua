-- Notes that a call served: ends the cooldown whose trial it was, or a row of failures that had not tripped.
-- KEYS: 1 the pool's hash, 2 the tenant's credential records. ARGV: 1 lease, 2 member, 3 credential.
local apply = function(record)
  if record.class == '-' or end_trial(record, ARGV[1]) then
    record.class, record.streak = '-', 0
  end
end
change(KEYS[1], ARGV[2], apply)
change(KEYS[2], ARGV[3], apply)
return 1
