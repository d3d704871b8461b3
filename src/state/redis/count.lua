-- Takes calls that are over out of what a replica has in flight in a pool, never below 0. Without common.lua, whose
-- definitions would cost more than this does, as often as calls end.
-- KEYS: 1 the pool's in-flight counts, 2 the pool's line where callers may wait for what is given back. ARGV: 1 replica, then two a member: key, calls.
for i = 2, #ARGV, 2 do
  local field = ARGV[i] .. '|' .. ARGV[1]
  if redis.call('HEXISTS', KEYS[1], field) == 1 and redis.call('HINCRBY', KEYS[1], field, -ARGV[i + 1]) <= 0 then
    redis.call('HDEL', KEYS[1], field)
  end
end
if KEYS[2] then
  tell(KEYS[2])
end
return 1
