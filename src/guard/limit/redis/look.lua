-- Tells how one share stands with its limits, and changes nothing.
--
-- KEYS: one a rule, then one a budget, then one a limit of what lasts. ARGV: how many rules and budgets.
-- Answer: the server's time; a rule: arrival time; a budget: end of its period and cells spent, 0 and 0 once it ended;
--       what lasts: places that are taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rules, budgets = tonumber(ARGV[1]), tonumber(ARGV[2])
local answer = {now}
for key = 1, #KEYS do
    if key <= rules then
        answer[#answer + 1] = tonumber(redis.call('GET', KEYS[key]) or '0')
    elseif key <= rules + budgets then
        local ends, spent = string.match(redis.call('GET', KEYS[key]) or '0 0', '^(%d+) (%d+)$')
        local is_open = tonumber(ends) * 1000000 > now
        answer[#answer + 1] = is_open and tonumber(ends) or 0
        answer[#answer + 1] = is_open and tonumber(spent) or 0
    else
        answer[#answer + 1] = redis.call('ZCOUNT', KEYS[key], '(' .. string.format('%.0f', math.floor(now / 1000)), '+inf')
    end
end
return answer
