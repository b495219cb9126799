-- Reads how one share stands, all at one moment, and changes nothing.
--
-- KEYS: one a rule, then one a budget, then one a limit of what lasts. ARGV: how many rules, and how many budgets.
-- Answer: the server's time; a rule: its arrival time; a budget: the end of its period and what is spent in it, or 0 and 0;
--       what lasts: places taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rules, budgets = tonumber(ARGV[1]), tonumber(ARGV[2])
local answer = {now}
for key = 1, #KEYS do
    if key <= rules then
        answer[#answer + 1] = tonumber(redis.call('GET', KEYS[key]) or '0')
    elseif key <= rules + budgets then
        local ends, spent = string.match(redis.call('GET', KEYS[key]) or '0 0', '^(%d+) (%d+)$')
        local lasts = tonumber(ends) > now / 1000000
        answer[#answer + 1] = lasts and tonumber(ends) or 0
        answer[#answer + 1] = lasts and tonumber(spent) or 0
    else
        answer[#answer + 1] = redis.call('ZCOUNT', KEYS[key], string.format('(%.0f', math.floor(now / 1000)), '+inf')
    end
end
return answer
