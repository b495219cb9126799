#!/usr/bin/env bash
# 200 sockets for a minute: painters, slow readers, stalled writers, malformed frames, half-closed sockets and page reloaders,
# half of them answered by the engine (a fake one), half relayed to a fake fal. Memory must stay flat, painters must not
# notice, and no connection or task may be left.
#
#   scripts/soak-sockets.sh
#   SOCKETS=50 SECONDS_EACH=20 scripts/soak-sockets.sh
#
# Samples of memory are left in target/soak-sockets/. Build first: cargo build --release --bin falgate --example socket_load
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=soak-sockets
source "$root/scripts/lib/bench.sh"
source "$root/scripts/lib/sockets.sh"
open_workplace
raw=$root/target/soak-sockets
mkdir -p "$raw"

start_fal
engine_gate
machine | tee "$raw/report.md"
echo | tee -a "$raw/report.md"
"$load" soak --url "ws://127.0.0.1:$gate/fal-ai/lcm-sd15-i2i/realtime" --relayed "ws://127.0.0.1:$gate/fal-ai/bench/realtime" \
    --tokens "http://127.0.0.1:$gate/tokens/" --sockets-per-token 1000 --key "$access_key" --pid "$gate_pid" \
    --admin "http://127.0.0.1:$admin" --sockets "${SOCKETS:-200}" --seconds "${SECONDS_EACH:-60}" \
    --raw "$raw/resident.csv" | tee -a "$raw/report.md"
stop_gate
