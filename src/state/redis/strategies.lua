-- The strategies of src/balance/strategy/: each chooses one member of those of the best tier who may serve, and may change
-- `turn`. Integers alone. Who may serve is asked as seldom as possible, since the answer can cost a look at the member's
-- windows.
--
-- `pool`: `count`; columns by place, `keys`, `ordinals`, `priorities` and `weights`; `tried`, by place; `calls`, those in
-- flight by key; `may`, whether the member at a place may serve; and `ring`, what `ring_of` has found, while that holds. Each
-- strategy returns the place of its choice, nil where there is none.

-- Whether the ordinal a is before b in the turn: those behind the last served come first, then by place in the ring.
local function in_turn(a, b, last)
  local a_behind, b_behind = a <= last, b <= last
  if a_behind ~= b_behind then
    return b_behind
  end
  return a < b
end

-- The first by tier and then by `before`, which is asked of two places.
local function least(pool, before)
  local priorities, tried, may, best, tier = pool.priorities, pool.tried, pool.may, nil, nil
  for i = 1, pool.count do
    local priority = priorities[i]
    local comes_first = not best or priority < tier or (priority == tier and before(i, best))
    if comes_first and not tried[i] and may(i) then
      best, tier = i, priority
    end
  end
  return best
end

local function floor_div(a, b)
  return (a - a % b) / b
end

-- Credits as they are kept, three words a member: key, weight, credit. Broken ones count as none.
local function read_credits(turn, text)
  local at = 0
  for key, weight, credit in string.gmatch(text, '(%S+) (%S+) (%S+)') do
    at = at + 1
    turn.keys[at], turn.weights[at], turn.credits[at] = key, tonumber(weight), tonumber(credit)
    if not turn.weights[at] or not turn.credits[at] then
      turn.keys, turn.weights, turn.credits = {}, {}, {}
      return
    end
  end
end

-- The credits of a changed set.
local function rebase(turn, pool, ring, total)
  local old_total, kept, sum = 0, {}, 0
  for at, key in ipairs(turn.keys) do
    old_total, kept[key] = old_total + turn.weights[at], turn.credits[at]
  end
  turn.keys, turn.weights, turn.credits = {}, {}, {}
  for at, i in ipairs(ring) do
    local key = pool.keys[i]
    local credit = old_total == 0 and 0 or floor_div((kept[key] or 0) * total, old_total)
    turn.keys[at], turn.weights[at], turn.credits[at], sum = key, pool.weights[i], credit, sum + credit
  end
  local left = sum
  for at, weight in ipairs(turn.weights) do
    local share = floor_div(sum * weight, total)
    turn.credits[at], left = turn.credits[at] - share, left - share
  end
  turn.credits[1] = turn.credits[1] - left
end

-- The places of those of the best tier who may serve, the tried among them.
local function ring_of(pool)
  if pool.ring then
    return pool.ring
  end
  local priorities, tried, may, tier, open = pool.priorities, pool.tried, pool.may, nil, {}
  for i = 1, pool.count do
    if (not tier or priorities[i] <= tier) and may(i) then
      open[#open + 1] = i
      if not tried[i] then
        tier = priorities[i]
      end
    end
  end
  local ring = {}
  for _, i in ipairs(open) do
    if priorities[i] == tier then
      ring[#ring + 1] = i
    end
  end
  pool.ring = ring
  return ring
end

local STRATEGIES = {}

STRATEGIES[ROUND_ROBIN] = function(pool, turn)
  local ordinals, last = pool.ordinals, turn.last
  return least(pool, function(a, b)
    return in_turn(ordinals[a], ordinals[b], last)
  end)
end

STRATEGIES[WEIGHTED_ROUND_ROBIN] = function(pool, turn)
  local ring = ring_of(pool)
  if #ring == 0 then
    return nil
  end
  local keys, weights, old_keys, old_weights = pool.keys, pool.weights, turn.keys, turn.weights
  local total, stable = 0, #old_keys == #ring
  for at, i in ipairs(ring) do
    local weight = weights[i]
    total = total + weight
    stable = stable and old_keys[at] == keys[i] and old_weights[at] == weight
  end
  if not stable then
    rebase(turn, pool, ring, total)
  end
  local ordinals, tried, last, credits, whole = pool.ordinals, pool.tried, turn.last, turn.credits, total * SCALE
  local best, best_due, best_owed, best_weight
  for at, i in ipairs(ring) do
    local weight = weights[i]
    local earned = weight * SCALE
    local credit = credits[at] + earned
    credits[at] = credit
    local owed = credit > 0
    if (owed or not best_owed) and not tried[i] then
      -- Turns until it would be owed a whole one: then its window closes.
      local missing = credit - whole
      local due = -(missing - missing % earned) / earned
      local before
      if not best or owed ~= best_owed then
        before = not best or owed
      elseif due ~= best_due then
        before = due < best_due
      elseif weight ~= best_weight then
        before = weight > best_weight
      else
        before = in_turn(ordinals[i], ordinals[ring[best]], last)
      end
      if before then
        best, best_due, best_owed, best_weight = at, due, owed, weight
      end
    end
  end
  credits[best] = credits[best] - whole
  return ring[best]
end

STRATEGIES[LEAST_CONNECTIONS] = function(pool, turn)
  local keys, weights, ordinals, calls, last = pool.keys, pool.weights, pool.ordinals, pool.calls, turn.last
  return least(pool, function(a, b)
    local a_load, b_load = (calls[keys[a]] or 0) * weights[b], (calls[keys[b]] or 0) * weights[a]
    if a_load ~= b_load then
      return a_load < b_load
    end
    return in_turn(ordinals[a], ordinals[b], last)
  end)
end
