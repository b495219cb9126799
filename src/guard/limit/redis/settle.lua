-- Puts right what was charged at an estimate, and charges what is owed.
--
-- KEYS: one a rule, then one a budget.
-- ARGV: how many rules; a rule: microseconds more (or less) than were charged; a budget: the end of the period in which it
--       was charged, and cells more (or less). A period that has ended stays as it is.
local MOST = 8e15
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rules, at = tonumber(ARGV[1]), 1

local function number()
    at = at + 1
    return tonumber(ARGV[at])
end

local function whole(n)
    return string.format('%.0f', n)
end

for key = 1, #KEYS do
    local stored = redis.call('GET', KEYS[key])
    if key <= rules then
        local more = number()
        local tat = tonumber(stored or '0')
        tat = more > 0 and math.min(math.max(tat, now) + more, MOST) or tat + more
        if tat > now then
            redis.call('SET', KEYS[key], whole(tat), 'PXAT', whole(math.floor(tat / 1000) + 1))
        else
            redis.call('DEL', KEYS[key])
        end
    else
        local ends, more = number(), number()
        local until_then, already = string.match(stored or '0 0', '^(%d+) (%d+)$')
        local was, sum = tonumber(until_then), nil
        if ends > now / 1000000 and was == ends then
            sum = math.max(0, math.min(tonumber(already) + more, MOST))
        elseif ends > now / 1000000 and was <= now / 1000000 and more > 0 then
            sum = more
        end
        if sum then
            redis.call('SET', KEYS[key], whole(ends) .. ' ' .. whole(sum), 'PXAT', whole(ends * 1000))
        end
    end
end
return 1
