-- Decides on one call and charges it to all of its limits, or to none.
--
-- KEYS: one a rule, then one a budget, then one a limit of what lasts.
-- ARGV: how many rules, budgets and limits of what lasts; the name of the place and for how many milliseconds it is leased;
--       a rule: microseconds that the call costs, microseconds of a rested key, 1 if it only counts, and for how many more
--       such calls a lease is wished;
--       a budget: cells, limit, period in seconds (0: a month), 1 if it only counts;
--       what lasts: most at once, 1 if it only counts.
-- Answer: 1 if charged; the server's time; a rule: arrival time, when it could pass (0: now, -1: never),
--       and for how many calls a lease was charged;
--       a budget: end of its period, 1 if it is overdrawn; what lasts: 1 if all places are taken.
--
-- Times are microseconds since 1970 and whole, below 2^53, so that Lua's doubles keep them exactly.
local MOST = 8e15
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local seconds = tonumber(time[1])
local rules, budgets, lasting = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local place, lease = ARGV[4], tonumber(ARGV[5])
local at, key = 5, 0

local function number()
    at = at + 1
    return tonumber(ARGV[at])
end

local function whole(n)
    return string.format('%.0f', n)
end

-- The end of the month that a second lies in, by the days of the civil calendar (Hinnant, chrono-compatible algorithms).
local function end_of_month(second)
    local days = math.floor(second / 86400) + 719468
    local era = math.floor(days / 146097)
    local of_era = days - era * 146097
    local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
        - math.floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local month = math.floor((5 * of_year + 2) / 153)
    year = year + era * 400
    -- Months count from March: the next one may be the next year's.
    month = month + 1
    if month == 12 then
        year, month = year + 1, 0
    end
    era = math.floor(year / 400)
    year = year - era * 400
    local day = math.floor((153 * month + 2) / 5)
    of_era = 365 * year + math.floor(year / 4) - math.floor(year / 100) + day
    return (era * 146097 + of_era - 719468) * 86400
end

local passes, answer, writes = true, {1, now}, {}

for _ = 1, rules do
    key = key + 1
    local cost, full, counts, wished = number(), number(), number() == 1, number()
    local tat = tonumber(redis.call('GET', KEYS[key]) or '0')
    local base = math.max(tat, now)
    local pass_at = 0
    if cost > full then
        pass_at = -1
    elseif base + cost - full > now then
        pass_at = base + cost - full
    end
    local leased = 0
    if pass_at == 0 then
        local after = base + cost
        if wished > 0 and cost > 0 then
            -- A tenth of what is left: a limit that is nearly used up is decided call by call.
            leased = math.min(wished, math.floor((now + full - after) / 10 / cost))
            after = after + leased * cost
        end
        writes[#writes + 1] = {key, whole(after), whole(math.floor(after / 1000) + 1), #answer + 1, after}
    elseif not counts then
        passes = false
    end
    answer[#answer + 1] = tat
    answer[#answer + 1] = pass_at
    answer[#answer + 1] = leased
end

for _ = 1, budgets do
    key = key + 1
    local cells, limit, period, counts = number(), number(), number(), number() == 1
    local ends = period == 0 and end_of_month(seconds) or seconds - seconds % period + period
    local spent = 0
    local stored = redis.call('GET', KEYS[key])
    if stored then
        local until_then, already = string.match(stored, '^(%d+) (%d+)$')
        if tonumber(until_then) == ends then
            spent = tonumber(already)
        end
    end
    local over = spent + cells > limit
    if not over or counts then
        local sum = math.min(spent + cells, MOST)
        writes[#writes + 1] = {key, whole(ends) .. ' ' .. whole(sum), whole(ends * 1000)}
    else
        passes = false
    end
    answer[#answer + 1] = ends
    answer[#answer + 1] = over and 1 or 0
end

local takes = {}
for _ = 1, lasting do
    key = key + 1
    local most, counts = number(), number() == 1
    redis.call('ZREMRANGEBYSCORE', KEYS[key], '-inf', whole(math.floor(now / 1000)))
    local taken = redis.call('ZCARD', KEYS[key]) >= most
    if not taken then
        takes[#takes + 1] = key
    elseif not counts then
        passes = false
    end
    answer[#answer + 1] = taken and 1 or 0
end

if not passes then
    answer[1] = 0
    return answer
end
for _, write in ipairs(writes) do
    redis.call('SET', KEYS[write[1]], write[2], 'PXAT', write[3])
    if write[4] then
        answer[write[4]] = write[5]
    end
end
for _, taken in ipairs(takes) do
    local ends = whole(math.floor(now / 1000) + lease)
    redis.call('ZADD', KEYS[taken], ends, place)
    redis.call('PEXPIRE', KEYS[taken], lease)
end
return answer
