-- Forgets what is deleted.
-- KEYS: any of one tenant. ARGV: nothing, or of each key the field that goes.
for i, key in ipairs(KEYS) do
  if ARGV[i] then
    redis.call('HDEL', key, ARGV[i])
  else
    redis.call('UNLINK', key)
  end
end
return 1
