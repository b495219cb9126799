#!/usr/bin/env bash
# Measures falgate as a key proxy against nginx doing the same work, and against no proxy at all, in one run.
#
#   scripts/bench-proxy.sh                         3 rounds of 5 s for each contestant and size
#   ROUNDS=5 SECONDS_EACH=3 scripts/bench-proxy.sh
#   SIZES=small FALGATE=path/to/falgate scripts/bench-proxy.sh
#
# Everything stays on loopback: wrk -> contestant -> a fake fal (nginx) that answers POSTs with 1 KB or 100 KB of JSON, and
# only to the right key. Contestants take turns; the table gives medians, and ratios within the same run. CPU per request is
# user and system time of all worker processes over the requests that wrk saw answered, in steps of 10 ms over a round.
# `limited` is the same falgate with three limits per address, to see what they cost.
set -euo pipefail

rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-5}
connections=${CONNECTIONS:-64}
sizes=${SIZES:-small large}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
falgate=${FALGATE:-$root/target/release/falgate}
key=bench-id:bench-secret
target=https://fal.run/fal-ai/bench

name=bench-proxy
source "$root/scripts/lib/bench.sh"
need nginx:nginx-light wrk:wrk curl:curl
nginx=$(command -v nginx || echo /usr/sbin/nginx)
[ -x "$falgate" ] || die "no $falgate: build it first (cargo build --release)"

open_workplace

free_port; fal=$port
free_port; by_nginx=$port
free_port; by_falgate=$port
free_port; admin=$port
free_port; by_limited=$port
free_port; limited_admin=$port

json() {  # an answer of so many bytes
    printf '{"images":[{"url":"data:image/jpeg;base64,%s"}]}' "$(head -c $(($1 - 52)) /dev/zero | tr '\0' A)"
}
mkdir -p "$work/answers/fal-ai"
json 1024 >"$work/answers/fal-ai/bench"
json 102400 >"$work/answers/fal-ai/bench-large"
printf '{"prompt":"%s"}' "$(head -c 1011 /dev/zero | tr '\0' a)" >"$work/input.json"

# The fake fal: 401 without the key, 400 when something of the caller's leaked.
cat >"$work/fal.conf" <<CONF
worker_processes 2;
$(nginx_head fal 4096)
http {
$(nginx_http fal)
    access_log off;
    default_type application/json;
    open_file_cache max=10 inactive=1h;
    server {
        listen 127.0.0.1:$fal backlog=1024;
        root $work/answers;
        location /fal-ai/ {
            if (\$http_authorization != "Key $key") { return 401; }
            if (\$http_cookie\$http_x_fal_target_url\$http_origin\$http_x_forwarded_for) { return 400; }
            error_page 405 =200 \$uri;
        }
        location = /served { stub_status; }
    }
}
CONF

# nginx as the key proxy: target allow list, key, caller's credentials and cookies dropped, id, limit per address, log.
cat >"$work/nginx.conf" <<CONF
worker_processes 1;
$(nginx_head nginx 4096)
http {
$(nginx_http nginx)
    log_format line '{"time":"\$time_iso8601","request_id":"\$request_id","client":"\$remote_addr","method":"\$request_method",'
        '"path":"\$uri","status":\$status,"bytes_in":\$request_length,"bytes_out":\$body_bytes_sent,"served_s":\$request_time}';
    access_log $work/nginx.access.log line buffer=64k flush=1s;
    limit_conn_zone \$binary_remote_addr zone=address:1m;
    limit_conn address 256;
    map \$http_x_fal_target_url \$path {
        default "";
        "$target" /fal-ai/bench;
        "$target-large" /fal-ai/bench-large;
    }
    upstream fal { server 127.0.0.1:$fal; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:$by_nginx backlog=1024;
        location = /api/fal/proxy {
            if (\$path = "") { return 403; }
            proxy_pass http://fal\$path;
            proxy_http_version 1.1;
            proxy_buffer_size 8k;
            proxy_buffers 16 16k;
            proxy_busy_buffers_size 64k;
            proxy_set_header Connection "";
            proxy_set_header Host fal.run;
            proxy_set_header Authorization "Key $key";
            proxy_set_header Cookie "";
            proxy_set_header Origin "";
            proxy_set_header Referer "";
            proxy_set_header X-Forwarded-For "";
            proxy_set_header X-Fal-Target-Url "";
            proxy_set_header Accept-Encoding identity;
            proxy_set_header X-Fal-Client-Proxy nginx;
            proxy_hide_header Set-Cookie;
            add_header X-Fal-Request-Id \$request_id;
        }
    }
}
CONF

cat >"$work/falgate.toml" <<CONF
[gate]
listen = "127.0.0.1:$by_falgate"
admin = "127.0.0.1:$admin"
workers = 1

[gate.limits]
connections = 4096
connections_per_address = 1024

[proxy.targets]
endpoints = ["fal-ai/bench", "fal-ai/bench-large"]

[upstream]
allow_plain_loopback = true
addresses.run = "http://127.0.0.1:$fal"

[engine]
enabled = false

[telemetry]
format = "json"
CONF
sed "s/:$by_falgate\"/:$by_limited\"/; s/:$admin\"/:$limited_admin\"/" "$work/falgate.toml" >"$work/limited.toml"
for window in 'second requests 1000' 'minute requests 60000' 'pictures pictures 60000'; do
    set -- $window
    printf '[[limits.rule]]\nname = "%s"\nof = "%s"\nby = "address"\namount = 4000000\nper_ms = %s\n' "$1" "$2" "$3"
done >>"$work/limited.toml"

# wrk's side: the caller brings credentials and a cookie of its own, which must not arrive.
for size in small large; do
    suffix=; [ $size = large ] && suffix=-large
    cat >"$work/direct-$size.lua" <<LUA
wrk.method = "POST"
wrk.body = io.open("$work/input.json"):read("*a")
wrk.headers["content-type"] = "application/json"
wrk.headers["accept"] = "application/json"
wrk.headers["authorization"] = "Key $key"
wrk.path = "/fal-ai/bench$suffix"
LUA
    cat >"$work/proxy-$size.lua" <<LUA
wrk.method = "POST"
wrk.body = io.open("$work/input.json"):read("*a")
wrk.headers["content-type"] = "application/json"
wrk.headers["accept"] = "application/json"
wrk.headers["user-agent"] = "bench"
wrk.headers["authorization"] = "Bearer of-the-caller"
wrk.headers["cookie"] = "session=of-the-caller"
wrk.headers["x-fal-target-url"] = "$target$suffix"
wrk.path = "/api/fal/proxy"
LUA
done

start_nginx fal; fal_pid=$started
start_nginx nginx; nginx_pid=$started
FAL_KEY=$key "$falgate" serve --config "$work/falgate.toml" 2>"$work/falgate.log" & pids+=($!); falgate_pid=$!
FAL_KEY=$key "$falgate" serve --config "$work/limited.toml" 2>"$work/limited.log" & pids+=($!); limited_pid=$!
wait_for "$fal" "the fake fal"
wait_for "$by_nginx" nginx
wait_for "$by_falgate" falgate
wait_for "$by_limited" "falgate with limits"
sleep 2
rss_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$falgate_pid/status"; }
rss_idle=$(rss_kb)

declare -A url=([direct]=http://127.0.0.1:$fal [nginx]=http://127.0.0.1:$by_nginx [falgate]=http://127.0.0.1:$by_falgate [limited]=http://127.0.0.1:$by_limited)
declare -A workers=([direct]=$fal_pid [nginx]=$nginx_pid [falgate]=$falgate_pid [limited]=$limited_pid)

# Equal work, before any number: the right target is answered whole, any other is refused, and nothing leaks (400, 401).
for who in nginx falgate limited; do
    post() {
        curl -s -o "$work/got" -w '%{http_code}' -H 'content-type: application/json' -H 'cookie: a=b' -H 'origin: '"${url[$who]}" \
            -H 'authorization: Bearer x' -H "x-fal-target-url: $1" --data-binary @"$work/input.json" "${url[$who]}/api/fal/proxy"
    }
    for suffix in '' -large; do
        status=$(post "$target$suffix") || true
        [ "$status" = 200 ] || die "$who answers $status to an allowed target"
        cmp -s "$work/got" "$work/answers/fal-ai/bench$suffix" || die "$who changes the answer"
    done
    status=$(post "${target%bench}other") || true
    [ "$status" = 403 ] || die "$who answers $status to a target that is not allowed"
done
[ "$(curl -s -o /dev/null -w '%{http_code}' -X POST "${url[direct]}/fal-ai/bench")" = 401 ] || die "the fake fal takes any key"
curl -sf "http://127.0.0.1:$admin/metrics" | grep '^falgate_requests' >/dev/null || die "falgate shows no metrics"

ticks() {  # user and system time of a process and its children, in clock ticks
    local sum=0 pid stat
    for pid in "$1" $(cat "/proc/$1/task/$1/children"); do
        stat=$(<"/proc/$pid/stat"); stat=${stat##*) }
        set -- $stat
        sum=$((sum + ${12} + ${13}))
    done
    echo "$sum"
}
served() { curl -s "http://127.0.0.1:$fal/served" | awk 'NR == 3 { print $3 }'; }

hz=$(getconf CLK_TCK)
measure() {  # who, size, seconds
    local script=proxy before after served_before served_after
    [ "$1" = direct ] && script=direct
    served_before=$(served); before=$(ticks "${workers[$1]}")
    wrk -t 1 -c "$connections" -d "$3s" --latency -s "$work/$script-$2.lua" "${url[$1]}" >"$work/wrk.txt"
    after=$(ticks "${workers[$1]}"); served_after=$(served)
    grep -Eq 'Non-2xx|Socket errors' "$work/wrk.txt" && { cat "$work/wrk.txt" >&2; die "$1 did not answer every request"; }
    awk -v who="$1" -v size="$2" -v ticks=$((after - before)) -v hz="$hz" -v served=$((served_after - served_before)) '
        function ms(text) { return text ~ /us$/ ? text / 1000 : text ~ /ms$/ ? text + 0 : text * 1000 }
        $1 == "50%" { p50 = ms($2) } $1 == "99%" { p99 = ms($2) }
        / requests in / { requests = $1 } /^Requests\/sec/ { rate = $2 }
        END {
            if (served < requests) { print "fewer calls arrived at the fake fal than were answered" > "/dev/stderr"; exit 1 }
            print who, size, ticks / hz * 1e6 / requests, rate, p50, p99
        }' "$work/wrk.txt"
}

say "$connections connections, $rounds rounds of $seconds s"
for size in $sizes; do
    for who in direct nginx falgate limited; do measure "$who" "$size" 1 >/dev/null; done
    for round in $(seq "$rounds"); do
        order="direct nginx falgate limited"
        [ $((round % 2)) = 0 ] && order="limited falgate nginx direct"
        for who in $order; do measure "$who" "$size" "$seconds" | tee -a "$work/rows" >&2; done
    done
done
rss_loaded=$(rss_kb)

machine
echo
awk -v sizes="$sizes" '
    { for (i = 3; i <= 6; i++) value[$1, $2, i, ++count[$1, $2, i]] = $i }
    function median(who, size, column,    n, i, j, list, swap) {
        n = count[who, size, column]
        for (i = 1; i <= n; i++) list[i] = value[who, size, column, i]
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (list[j] < list[i]) { swap = list[i]; list[i] = list[j]; list[j] = swap }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    END {
        print "| case | contestant | CPU per request | to nginx | requests/s | to nginx | to direct | p50 | p99 |"
        print "|---|---|---:|---:|---:|---:|---:|---:|---:|"
        names["small"] = "1 KB answer"; names["large"] = "100 KB answer"
        split("direct nginx falgate limited", whos, " ")
        n = split(sizes, list, " ")
        for (s = 1; s <= n; s++) for (w = 1; w <= 4; w++) {
            size = list[s]; who = whos[w]
            cpu = median(who, size, 3); rate = median(who, size, 4)
            printf "| %s | %s | ", names[size], who
            if (who == "direct") printf "– | – | "
            else printf "%.1f µs | %.2f | ", cpu, cpu / median("nginx", size, 3)
            printf "%.0f | %.2f | %.2f | %.2f ms | %.2f ms |\n", rate, rate / median("nginx", size, 4), \
                rate / median("direct", size, 4), median(who, size, 5), median(who, size, 6)
        }
    }' "$work/rows"
printf '\nfalgate, resident: %.1f MB idle before the load, %.1f MB after it\n' "$((rss_idle * 1024))e-6" "$((rss_loaded * 1024))e-6"
