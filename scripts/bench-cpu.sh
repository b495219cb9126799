#!/usr/bin/env bash
# Measures the engine on this machine's CPU beside diffusers on torch, in turns: phase by phase, batch by batch.
#
#   scripts/bench-cpu.sh [RESULTS]    writes RESULTS (target/bench-cpu) and prints a table a round
#
# MODEL is the folder that falgate runs (models/demo) and SIDE the side of its pictures (256). ARCHITECTURE says what torch runs
# beside it, with random weights, since speed does not depend on them: `demo` (default), or `sd15`, the full size. HOWS: eager, or
# "eager compile". THREADS (all cores), ROUNDS (3), BATCH (1,2,4), STEPS (1,2,4). PYTHON wants the packages of
# models/demo/requirements.txt; FALGATE is a release build.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=bench-cpu
source "$root/scripts/lib/bench.sh"
results=${1:-$root/target/bench-cpu}
python=${PYTHON:-python3} falgate=${FALGATE:-$root/target/release/falgate}
threads=${THREADS:-$(nproc)}

[ -x "$falgate" ] || die "build it first: cargo build --release"
"$python" -c 'import torch, diffusers' 2>/dev/null || die "PYTHON ($python) lacks torch or diffusers: see models/demo/requirements.txt"
open_workplace
common=(--batch "${BATCH:-1,2,4}" --steps "${STEPS:-1,2,4}" --threads "$threads" --row-limit "${ROW_LIMIT:-4}")
side=${SIDE:-256}
torch=(--device cpu --side "$side")
[ "${ARCHITECTURE:-demo}" != demo ] || torch+=(--demo "$root/models/demo")
for round in $(seq "${ROUNDS:-3}"); do
    to=$results/$round
    mkdir -p "$to"
    say "round $round: the engine"
    "$falgate" model bench "${MODEL:-$root/models/demo}" --library "$("$root/scripts/fetch-onnxruntime.sh")" --size "$side" "${common[@]}" \
        --json >"$to/engine-full.json"
    for how in ${HOWS:-eager}; do
        say "round $round: torch, $how"
        "$python" "$root/scripts/gpu/torch_bench.py" --how "$how" "${torch[@]}" "${common[@]}" >"$to/$how-full.json"
    done
    "$python" "$root/scripts/gpu/report.py" "$to"
done
say "load at the start: $(cat "$work/load")"
