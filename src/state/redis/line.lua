-- Tells those who wait for a pool that something of it may be free: the first in line, and those whose callers have stepped
-- aside. The line is a sorted set of replicas, each by the score of the first of its callers (ms), or LAST where all of
-- them have stepped aside. An entry is "replica until waiting": until when it counts unless the replica asks again (ms),
-- and how many wait there. Whom the word does not reach looks by itself, so one that may not publish fails nobody.
local function tell(line)
  local entries = redis.call('ZRANGE', line, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    if i == 1 or tonumber(entries[i + 1]) >= LAST then
      redis.pcall('PUBLISH', LINE_CHANNEL .. string.match(entries[i], '^%S+'), string.match(line, ':line:(%x+):'))
    end
  end
end

