-- The strategies of src/balance/strategy/: each chooses one member of those of the best tier who may serve, and may change
-- `turn`. Integers alone. Who may serve is asked as seldom as possible, since the answer can cost a look at the member's
-- windows.
--
-- `pool`: `members`, lists as acquire.lua takes them; `tried`, by place; `calls`, those in flight by key; `may`, whether a
-- member may serve; and `ring`, what `ring_of` has found, while that holds. Each strategy returns the place of its choice,
-- nil where there is none.

local KEY, RECORD, ORDINAL, PRIORITY, CREDENTIAL, WEIGHT, REQUESTS, TOKENS, AT_ONCE = 1, 2, 3, 4, 5, 6, 7, 8, 9

-- Whether a is before b in the turn: those behind the last served come first, then by place in the ring.
local function in_turn(a, b, last)
  local a_behind, b_behind = a[ORDINAL] <= last, b[ORDINAL] <= last
  if a_behind ~= b_behind then
    return b_behind
  end
  return a[ORDINAL] < b[ORDINAL]
end

-- The first by tier and then by `before`.
local function least(pool, last, before)
  local best, chosen, tried, may = nil, nil, pool.tried, pool.may
  for i, member in ipairs(pool.members) do
    local comes_first = not best or member[PRIORITY] < best[PRIORITY]
      or (member[PRIORITY] == best[PRIORITY] and before(member, best, last))
    if comes_first and not tried[i] and may(member) then
      best, chosen = member, i
    end
  end
  return chosen
end

local function floor_div(a, b)
  return (a - a % b) / b
end

-- The credits of a changed set.
local function rebase(old, ring, total)
  local old_total, kept, credits, sum = 0, {}, {}, 0
  for _, one in ipairs(old) do
    old_total, kept[one.key] = old_total + one.weight, one.credit
  end
  for i, member in ipairs(ring) do
    local key, weight = member[KEY], member[WEIGHT]
    local credit = old_total == 0 and 0 or floor_div((kept[key] or 0) * total, old_total)
    credits[i], sum = { key = key, weight = weight, credit = credit }, sum + credit
  end
  local left = sum
  for _, one in ipairs(credits) do
    local share = floor_div(sum * one.weight, total)
    one.credit, left = one.credit - share, left - share
  end
  credits[1].credit = credits[1].credit - left
  return credits
end

-- Those of the best tier who may serve, the tried among them, and the place of each.
local function ring_of(pool)
  if pool.ring then
    return unpack(pool.ring)
  end
  local tier, open = nil, {}
  for i, member in ipairs(pool.members) do
    if (not tier or member[PRIORITY] <= tier) and pool.may(member) then
      open[#open + 1] = i
      if not pool.tried[i] then
        tier = member[PRIORITY]
      end
    end
  end
  local ring, places = {}, {}
  for _, i in ipairs(open) do
    local member = pool.members[i]
    if member[PRIORITY] == tier then
      ring[#ring + 1], places[#places + 1] = member, i
    end
  end
  pool.ring = { ring, places }
  return ring, places
end

local STRATEGIES = {}

STRATEGIES[ROUND_ROBIN] = function(pool, turn)
  return least(pool, turn.last, in_turn)
end

STRATEGIES[WEIGHTED_ROUND_ROBIN] = function(pool, turn)
  local ring, places = ring_of(pool)
  if #ring == 0 then
    return nil
  end
  local total, stable = 0, #turn.credits == #ring
  for i, member in ipairs(ring) do
    total = total + member[WEIGHT]
    stable = stable and turn.credits[i].key == member[KEY] and turn.credits[i].weight == member[WEIGHT]
  end
  if not stable then
    turn.credits = rebase(turn.credits, ring, total)
  end
  local whole, last, best = total * SCALE, turn.last, nil
  local best_due, best_owed
  for i, member in ipairs(ring) do
    local own = turn.credits[i]
    own.credit = own.credit + own.weight * SCALE
    -- Turns until it would be owed a whole one: then its window closes.
    local due, owed = -floor_div(own.credit - whole, own.weight * SCALE), own.credit > 0
    local before
    if not best then
      before = true
    elseif owed ~= best_owed then
      before = owed
    elseif due ~= best_due then
      before = due < best_due
    elseif own.weight ~= ring[best][WEIGHT] then
      before = own.weight > ring[best][WEIGHT]
    else
      before = in_turn(member, ring[best], last)
    end
    if before and not pool.tried[places[i]] then
      best, best_due, best_owed = i, due, owed
    end
  end
  turn.credits[best].credit = turn.credits[best].credit - whole
  return places[best]
end

STRATEGIES[LEAST_CONNECTIONS] = function(pool, turn)
  local calls = pool.calls
  return least(pool, turn.last, function(a, b, last)
    local a_load, b_load = (calls[a[KEY]] or 0) * b[WEIGHT], (calls[b[KEY]] or 0) * a[WEIGHT]
    if a_load ~= b_load then
      return a_load < b_load
    end
    return in_turn(a, b, last)
  end)
end
