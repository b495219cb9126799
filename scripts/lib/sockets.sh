#!/usr/bin/env bash
# The parties of the socket measurements. Sourced after lib/bench.sh; ports and processes are left in variables.

falgate=${FALGATE:-$root/target/release/falgate}
load=${LOAD:-$root/target/release/examples/socket_load}
[ -x "$falgate" ] && [ -x "$load" ] || die "build first: cargo build --release --bin falgate --example socket_load"
# Thousands of sockets are thousands of files, twice in a relay.
ulimit -n "$(ulimit -Hn)"

# Callers of the gates show this.
access_key=bench-caller:bench-access

# The fal behind the relay and behind nginx: sets `fal`.
start_fal() {
    [ -z "${fal:-}" ] || return 0
    free_port; fal=$port
    "$load" fal --listen "127.0.0.1:$fal" 2>"$work/fal.log" & pids+=($!)
    wait_for "$fal" "the fake fal"
}

# A gate: program and its words, then the configuration's name. Sets `gate`, `admin` and `gate_pid`.
start_gate() {
    free_port; gate=$port
    free_port; admin=$port
    local url="\"http://127.0.0.1:${fal:-9}\""
    FAL_KEY=bench-id:bench-secret BENCH_ACCESS_KEY="$access_key" FALGATE__GATE__LISTEN="\"127.0.0.1:$gate\"" FALGATE__GATE__ADMIN="\"127.0.0.1:$admin\"" \
        FALGATE__UPSTREAM__ADDRESSES__RUN="$url" FALGATE__UPSTREAM__ADDRESSES__REST="$url" \
        "$@" 2>"$work/gate.log" & gate_pid=$!
    pids+=("$gate_pid")
    wait_for "$gate" "the gate"
    wait_for "$admin" "the gate's admin listener"
}
relay_gate() { start_gate "$falgate" serve --config "$root/scripts/bench/relay.toml"; }
engine_gate() { start_gate "$load" gate --config "$root/scripts/bench/engine.toml" --backend-ms "${BACKEND_MS:-20}"; }

# Ends a gate before the next measurement, so that each starts fresh.
stop_gate() {
    kill "$gate_pid"
    wait "$gate_pid" || die "the gate ended with $?: $(tail -3 "$work/gate.log")"
}

# nginx as a tunnel for sockets, as its documentation says: name, extra lines. Sets `tunnel` and `tunnel_pid` (its master).
nginx_tunnel() {
    free_port; tunnel=$port
    cat >"$work/$1.conf" <<CONF
worker_processes 1;
worker_rlimit_nofile $(ulimit -n);
$(nginx_head "$1" 16384)
http {
$(nginx_http "$1")
    access_log $work/$1.access.log combined buffer=64k flush=1s;
    limit_conn_zone \$binary_remote_addr zone=address:1m;
    limit_conn address 16384;
    map \$http_upgrade \$connection_upgrade { default upgrade; '' close; }
    upstream fal { server 127.0.0.1:$fal; }
    server {
        listen 127.0.0.1:$tunnel backlog=1024;
        location / {
            proxy_pass http://fal;
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$connection_upgrade;
            proxy_set_header Host fal.run;
            proxy_set_header Authorization "Key bench-id:bench-secret";
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
            $2
        }
    }
}
CONF
    start_nginx "$1"; tunnel_pid=$started
    wait_for "$tunnel" "$1"
}
