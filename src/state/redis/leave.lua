-- Gives up a replica's place in a pool's line: nobody waits there any more.
-- KEYS: 1 the pool's line. ARGV: 1 replica
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(entry, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
    redis.call('ZREM', KEYS[1], entry)
  end
end
tell(KEYS[1])
return 1
