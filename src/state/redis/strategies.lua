-- The strategies of src/balance/strategy/: each chooses one of `ring`, of whom at least one is not tried, and may change
-- `turn`. Integers alone.

-- Whether a is before b in the turn: those behind the last served come first, then by place in the ring.
local function in_turn(a, b, last)
  local a_behind, b_behind = a.ordinal <= last, b.ordinal <= last
  if a_behind ~= b_behind then
    return b_behind
  end
  return a.ordinal < b.ordinal
end

local function least(ring, turn, before)
  local best
  for _, member in ipairs(ring) do
    if not member.tried and (not best or before(member, best, turn.last)) then
      best = member
    end
  end
  return best
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
    local credit = old_total == 0 and 0 or floor_div((kept[member.key] or 0) * total, old_total)
    credits[i], sum = { key = member.key, weight = member.weight, credit = credit }, sum + credit
  end
  local left = sum
  for _, one in ipairs(credits) do
    local share = floor_div(sum * one.weight, total)
    one.credit, left = one.credit - share, left - share
  end
  credits[1].credit = credits[1].credit - left
  return credits
end

local STRATEGIES = {}

STRATEGIES[ROUND_ROBIN] = function(ring, turn)
  return least(ring, turn, in_turn)
end

STRATEGIES[WEIGHTED_ROUND_ROBIN] = function(ring, turn)
  local total, stable = 0, #turn.credits == #ring
  for i, member in ipairs(ring) do
    total = total + member.weight
    stable = stable and turn.credits[i].key == member.key and turn.credits[i].weight == member.weight
  end
  if not stable then
    turn.credits = rebase(turn.credits, ring, total)
  end
  local whole = total * SCALE
  for i, member in ipairs(ring) do
    local own = turn.credits[i]
    own.credit = own.credit + own.weight * SCALE
    -- Turns until it would be owed a whole one: then its window closes.
    member.credit, member.due = own, -floor_div(own.credit - whole, own.weight * SCALE)
  end
  local best = least(ring, turn, function(a, b, last)
    local a_owed, b_owed = a.credit.credit > 0, b.credit.credit > 0
    if a_owed ~= b_owed then
      return a_owed
    elseif a.due ~= b.due then
      return a.due < b.due
    elseif a.weight ~= b.weight then
      return a.weight > b.weight
    end
    return in_turn(a, b, last)
  end)
  best.credit.credit = best.credit.credit - whole
  return best
end

STRATEGIES[LEAST_CONNECTIONS] = function(ring, turn)
  return least(ring, turn, function(a, b, last)
    local a_load, b_load = a.calls * b.weight, b.calls * a.weight
    if a_load ~= b_load then
      return a_load < b_load
    end
    return in_turn(a, b, last)
  end)
end
