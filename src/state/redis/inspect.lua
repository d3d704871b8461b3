-- All that is known of a pool's members. Changes nothing but forgetting holders that are gone, and leases that are over.
-- KEYS: as in acquire.lua. ARGV: 1 clock ahead, then three a member: key, record, credential.
-- Returns now, "last" or -1, "credits" or "", then five a member: its record and its credential's or "", calls in
-- flight, its windows of requests and of tokens.
local now = clock(ARGV[1])
local counts = in_flight(KEYS[3], KEYS[4], KEYS[6], now)
-- A large pool keeps its credits in another form.
local packed = (#ARGV - 1) / 3 > LARGE and redis.call('HGET', KEYS[7], 'credits')
local turn = packed and cmsgpack.unpack(packed)
local credits = turn and credits_text({ keys = turn[1], weights = turn[2], credits = turn[3] })
local result = { now, tonumber(redis.call('HGET', KEYS[1], 'last') or -1) or -1,
  credits or redis.call('HGET', KEYS[1], 'credits') or '' }
for i = 2, #ARGV, 3 do
  result[#result + 1] = redis.call('HGET', KEYS[1], ARGV[i + 1]) or ''
  result[#result + 1] = redis.call('HGET', KEYS[2], ARGV[i + 2]) or ''
  result[#result + 1] = counts[ARGV[i]] or 0
  result[#result + 1] = redis.call('HGET', KEYS[5], 'r:' .. ARGV[i]) or ''
  result[#result + 1] = redis.call('HGET', KEYS[5], 't:' .. ARGV[i]) or ''
end
return result
