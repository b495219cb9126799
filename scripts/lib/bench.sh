#!/usr/bin/env bash
# What the benchmarks have in common. Sourced, with `name` and `root` set: what messages begin with, and the repository.

say() { printf '%s: %s\n' "$name" "$*" >&2; }
die() { say "$*"; exit 1; }

# Installs what is missing, if it may: pairs of a command and its Debian package.
need() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing ${missing[*]}"
        { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >&2 || die "apt could not install ${missing[*]}"
    else
        die "needs ${missing[*]}; on Debian and Ubuntu: apt install ${missing[*]}"
    fi
}

# Makes the folder `work`, which is gone at the end, as are the processes in `pids`. Notes how busy the machine is.
open_workplace() {
    mkdir -p "$root/target"
    work=$(mktemp -d "$root/target/$name-XXXXXX")
    cp /proc/loadavg "$work/load"
    pids=()
    trap close_workplace EXIT
    trap 'exit 130' INT TERM
}
close_workplace() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}

next_port=$((20000 + RANDOM % 10000))
free_port() {  # sets `port`
    while next_port=$((next_port + 1)); (exec 3<>"/dev/tcp/127.0.0.1/$next_port") 2>/dev/null; do :; done
    port=$next_port
}

wait_for() {  # port, who
    for _ in $(seq 200); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    cat "$work"/*.log >&2
    die "$2 did not start"
}

# The top of every nginx configuration: who, connections. Run by root, workers stay root: nobody else may read this tree.
nginx_head() {
    printf '%s\n' 'daemon off;' "pid $work/$1.pid;" "error_log $work/$1.error.log warn;"
    [ "$(id -u)" != 0 ] || echo 'user root root;'
    echo "events { worker_connections $2; }"
}

# The top of its `http`: who.
nginx_http() {
    cat <<CONF
    client_body_temp_path $work/$1.body; proxy_temp_path $work/$1.proxy; fastcgi_temp_path $work/$1.fastcgi;
    uwsgi_temp_path $work/$1.uwsgi; scgi_temp_path $work/$1.scgi;
    keepalive_requests 1000000000; sendfile on; tcp_nopush on; tcp_nodelay on; server_tokens off;
CONF
}

start_nginx() {  # who; sets `started`
    "$nginx" -p "$work" -e "$work/$1.error.log" -c "$work/$1.conf" & started=$!
    pids+=("$started")
}

# One line about where and when the numbers were taken: falgate, and nginx if it took part.
machine() {
    local processor busy
    processor=$(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
    busy=$(cut -d ' ' -f 1 "$work/load")
    printf '%s, %s cores (%s), Linux %s, %s%s; load when it began %s\n' "$(date +%F)" "$(nproc)" \
        "${processor:-$(uname -m)}" "$(uname -r)" "${nginx:+$("$nginx" -v 2>&1 | sed 's/.*: //'), }" "$("$falgate" --version)" "$busy"
}
