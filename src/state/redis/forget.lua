-- Forgets what is deleted.
-- KEYS: any of one tenant.
for _, key in ipairs(KEYS) do
  redis.call('UNLINK', key)
end
return 1
