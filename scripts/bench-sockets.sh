#!/usr/bin/env bash
# Measures falgate's sockets: the embedded engine's latency and fairness with a fake device that takes 20 ms, and the relay
# beside nginx's tunnel and beside no relay at all, in one run.
#
#   scripts/bench-sockets.sh                       everything, a few minutes
#   MEASURES="relay tunnel" scripts/bench-sockets.sh
#   SOCKETS=1000 SECONDS_EACH=10 scripts/bench-sockets.sh
#
# Everything stays on loopback. The table and the raw numbers are left in target/bench-sockets/. Ends with 1 if a goal was
# missed. Build first: cargo build --release --bin falgate --example socket_load
set -euo pipefail

measures=${MEASURES:-latency painters relay tunnel idle}
sockets=${SOCKETS:-5000}
seconds=${SECONDS_EACH:-60}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=bench-sockets
source "$root/scripts/lib/bench.sh"
source "$root/scripts/lib/sockets.sh"
need nginx:nginx-light
nginx=$(command -v nginx || echo /usr/sbin/nginx)
[ $((sockets * 2 + 500)) -le "$(ulimit -n)" ] || die "$sockets sockets need $((sockets * 2 + 500)) open files, $(ulimit -n) are allowed"

open_workplace
raw=$root/target/bench-sockets
mkdir -p "$raw"
: >"$raw/report.md"
told() { tee -a "$raw/report.md"; }
say_so() { printf "$@" | told; }
missed=0
# Runs one measurement; a missed goal is said and counted, and the others go on.
measure() { "$load" "$@" | told || missed=$((missed + 1)); }

engine_url=fal-ai/lcm-sd15-i2i/realtime
relay_url=fal-ai/bench/realtime
at() { printf 'ws://127.0.0.1:%s/%s' "$1" "$2"; }
door() { printf -- '--tokens\nhttp://127.0.0.1:%s/tokens/\n--sockets-per-token\n1000\n--key\n%s' "$gate" "$access_key"; }

latency() {
    say_so '\n## Round trip, engine of %s ms\n\n' "${BACKEND_MS:-20}"
    engine_gate
    for dialect in binary text; do
        measure latency --url "$(at "$gate" "$engine_url")" $(door) --dialect "$dialect" --raw "$raw/latency-$dialect.csv" \
            --goal-p95-ms 30
        say_so '\n'
    done
    stop_gate
}

painters() {
    say_so '\n## Painters, engine of %s ms\n\n' "${BACKEND_MS:-20}"
    engine_gate
    measure painters --url "$(at "$gate" "$engine_url")" $(door) --seconds "$seconds" --raw "$raw/painters.csv" --goal-p95-ms 250
    stop_gate
}

relay() {
    say_so '\n## What the relay adds\n\n'
    start_fal
    relay_gate
    measure relay --url "$(at "$gate" "$relay_url")" $(door) --app fal-ai/bench --direct "$(at "$fal" "$relay_url")" \
        --raw "$raw/relay.csv" --goal-added-ms 1
    stop_gate
}

tunnel() {
    say_so '\n## Messages through tunnels\n'
    start_fal
    relay_gate
    nginx_tunnel nginx ''; local plain=$tunnel plain_pid=$tunnel_pid
    nginx_tunnel nginx-64k 'proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 64k;'; local large=$tunnel large_pid=$tunnel_pid
    local bytes many goal
    for bytes in 65536 128; do
        for many in 1 16; do
            goal=(); [ "$bytes/$many" != 65536/1 ] || goal=(--goal-ratio 0.55)
            say_so '\n'
            measure tunnel --bytes "$bytes" --sockets "$many" --tokens "http://127.0.0.1:$gate/tokens/" \
                --key "$access_key" --through "direct=$(at "$fal" "$relay_url")" --through "nginx=$plain_pid=$(at "$plain" "$relay_url")" \
                --through "nginx, 64k buffers=$large_pid=$(at "$large" "$relay_url")" \
                --through "falgate=$gate_pid=$(at "$gate" "$relay_url")" --raw "$raw/tunnel-$bytes-$many.csv" "${goal[@]}"
        done
    done
    stop_gate
}

idle() {
    say_so '\n## Memory of idle sockets\n\n'
    say_so '| who | sockets | how | KiB a socket | before MiB | full MiB | after MiB |\n|---|---:|---|---:|---:|---:|---:|\n'
    start_fal
    local message
    for message in 0 4096; do
        relay_gate
        measure idle --name "falgate, relayed" --url "$(at "$gate" "$relay_url")" $(door) --app fal-ai/bench --pid "$gate_pid" \
            --sockets "$sockets" --message "$message" --goal-kib 6
        stop_gate
        nginx_tunnel "nginx$message" ''
        local worker; worker=$(cat "/proc/$tunnel_pid/task/$tunnel_pid/children")
        measure idle --name "nginx, relayed" --url "$(at "$tunnel" "$relay_url")" --pid "${worker%% *}" --sockets "$sockets" \
            --message "$message"
        # The engine answers these bytes with an error and keeps the socket.
        engine_gate
        measure idle --name "falgate, answered by the engine" --url "$(at "$gate" "$engine_url")" $(door) --pid "$gate_pid" \
            --sockets "$sockets" --message "$message" --goal-kib 16
        stop_gate
    done
}

machine | told
for one in $measures; do
    case $one in latency | painters | relay | tunnel | idle) "$one" ;; *) die "no measurement $one" ;; esac
done
[ "$missed" = 0 ] || die "$missed goals were missed"
