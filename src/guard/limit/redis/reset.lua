-- Lets one share off, in all of its rules and budgets at once.
--
-- KEYS: one a rule, then one a budget. ARGV: how many rules.
-- Answer: one a key, 1 if there was something to forget.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rules = tonumber(ARGV[1])
local answer = {}
for key = 1, #KEYS do
    local stored = redis.call('GET', KEYS[key]) or '0'
    local counts
    if key <= rules then
        counts = tonumber(stored) > now
    else
        local ends, spent = string.match(stored, '^(%d+) (%d+)$')
        counts = ends ~= nil and tonumber(ends) * 1000000 > now and tonumber(spent) > 0
    end
    redis.call('DEL', KEYS[key])
    answer[key] = counts and 1 or 0
end
return answer
