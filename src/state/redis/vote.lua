-- Notes what a replica has seen of an address, and tells the others: with "agreed" where at least two replicas, and more
-- than half of those that have tried it lately, cannot reach it, and none was served from there since.
-- KEYS: 1 the address's votes, by replica. ARGV: 1 clock ahead, 2 replica, 3 "failed", "served", "withdrawn" or "cleared",
-- 4 for how long a vote counts (ms), 5 channel, 6 tenant, 7 address; "failed": 8 for how long it cools (ms), 9 class
local now, replica, kind, counts = clock(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
if kind == 'cleared' then
  redis.call('DEL', KEYS[1])
elseif kind == 'withdrawn' then
  redis.call('HDEL', KEYS[1], replica)
  return 1
else
  redis.call('HSET', KEYS[1], replica, kind .. ' ' .. now)
  redis.call('PEXPIRE', KEYS[1], counts)
end
local word = kind
if kind == 'failed' then
  local votes, tried, failed, first, served = redis.call('HGETALL', KEYS[1]), 0, 0, now, 0
  for i = 1, #votes, 2 do
    local vote = words(votes[i + 1])
    local at = tonumber(vote[2])
    if at + counts <= now then
      redis.call('HDEL', KEYS[1], votes[i])
    else
      tried = tried + 1
      if vote[1] == 'failed' then
        failed, first = failed + 1, math.min(first, at)
      else
        served = math.max(served, at)
      end
    end
  end
  if failed >= 2 and failed * 2 > tried and served < first then
    word = 'agreed ' .. ARGV[8] .. ' ' .. ARGV[9]
  end
end
redis.call('PUBLISH', ARGV[5], table.concat({ ARGV[6], ARGV[7], replica, word }, ' '))
return 1
