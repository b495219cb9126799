-- Lets one share off: its rules are rested, its budgets unspent. KEYS: one a rule and one a budget. Answer: how many held something.
if #KEYS == 0 then
    return 0
end
return redis.call('DEL', unpack(KEYS))
