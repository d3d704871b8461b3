-- Whether this server takes writes and lets us run every command of the other scripts, tried on a key that nobody reads.
-- KEYS: 1 that key. ARGV: 1 ttl (ms). Returns the commands that the server's ACL refuses.
local refused = {}
local function try(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) == 'table' and answer.err then
    -- Redis 6 and 7 word it so inside a script. Anything else is trouble of another kind.
    if not (string.find(answer.err, 'permission') or string.find(answer.err, "can't run this command")) then
      error(answer.err)
    end
    refused[#refused + 1] = string.lower(command)
  end
end
try('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1])
try('UNLINK', KEYS[1])
try('TIME')
try('EXISTS', KEYS[1])
try('HSET', KEYS[1], 'a', '1')
try('HGET', KEYS[1], 'a')
try('HMGET', KEYS[1], 'a')
try('HGETALL', KEYS[1])
try('HKEYS', KEYS[1])
try('HEXISTS', KEYS[1], 'a')
try('HINCRBY', KEYS[1], 'a', 1)
try('PEXPIRE', KEYS[1], ARGV[1])
try('HDEL', KEYS[1], 'a')
try('ZADD', KEYS[1], 1, 'a')
try('ZSCORE', KEYS[1], 'a')
try('ZRANGE', KEYS[1], 0, -1)
try('ZRANGEBYSCORE', KEYS[1], 0, 1)
try('ZREM', KEYS[1], 'a')
try('DEL', KEYS[1])
try('PUBLISH', 'rota:probe', '')
return refused
