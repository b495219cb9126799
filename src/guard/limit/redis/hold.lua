-- Renews the lease of a place, also where it had run out or was lost with the server's memory, or gives the place back.
--
-- KEYS: the limits in which it is taken. ARGV: the place; for how many milliseconds, 0 to give it back.
local time = redis.call('TIME')
local now = math.floor((time[1] * 1000000 + time[2]) / 1000)
local lease = tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
    if lease == 0 then
        redis.call('ZREM', key, ARGV[1])
    else
        redis.call('ZADD', key, string.format('%.0f', now + lease), ARGV[1])
        redis.call('PEXPIRE', key, lease)
    end
end
return 1
