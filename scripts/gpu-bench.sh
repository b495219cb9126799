#!/usr/bin/env bash
# Measures the engine on a bare machine with CUDA 13: no network, no cargo, files in small parts.
#
#   scripts/gpu-bench.sh pack DIR          here: puts all that travels into DIR, in parts of PART_MIB (40) with their hashes
#   scripts/gpu-bench.sh take DIR WHERE    there: keeps the parts that lie in DIR; run it once a transfer
#   scripts/gpu-bench.sh run WHERE RESULTS there: checks and unpacks the parts, then measures; say it after the last transfer
#   scripts/gpu-bench.sh dry RESULTS       here: all of it on the CPU with tiny models, to see that it would work
#
# `pack` wants `cargo build --release --features cuda --bin falgate --example socket_load`, a network for the CUDA build of ONNX
# Runtime, and in PYTHON the packages of models/tools/requirements.txt. SM names the GPU's architecture (90). `run` wants Python
# with numpy, onnx, onnxruntime, torch, transformers and Pillow, and finds CUDA's libraries in Python's nvidia packages or in
# CUDA_LIBRARIES (folders with a colon between).
#
# What is done, in this order; a check that fails ends it, a measurement that fails is listed:
#   library    the slimmed provider loads, and runs the tiny model
#   goldens    the tiny model, fused for CUDA, against diffusers' pictures, through the gate
#   weights    the full-size graphs, which travel without weights, are filled with seeded random values
#   parity     a full-size picture against the same graphs on the CPU in single precision, both autoencoders
#   engine     falgate model bench, both autoencoders
#   torch      diffusers in half precision, eager and torch.compile, in the same run
#   painters   1, 4, 8 and 16 painters over the gate's WebSocket
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=gpu-bench
source "$root/scripts/lib/bench.sh"
python=${PYTHON:-python3}

# --- here: what travels

# Collects everything below $1.
stage_bundle() {
    local to=$1 library
    mkdir -p "$to"/{bin,ort,models,scripts/lib,golden}
    cp "${FALGATE:-$root/target/release/falgate}" "$to/bin/falgate"
    cp "${LOAD:-$root/target/release/examples/socket_load}" "$to/bin/socket_load"
    strip "$to"/bin/* 2>/dev/null || true
    cp "$root/scripts/gpu-bench.sh" "$to/scripts/"
    cp "$root/scripts/lib/bench.sh" "$to/scripts/lib/"
    cp -r "$root/scripts/gpu" "$to/scripts/gpu"
    mkdir -p "$to/models/tools"
    cp "$root"/models/tools/{check,graphs,plain,progress}.py "$to/models/tools/"
    cp "$root"/tests/golden/golden.{json,safetensors} "$to/golden/"
    local tiny=$root/target/gpu-bench-tiny
    if [ ! -d "$tiny" ]; then
        say "fusing the tiny model for CUDA, once; remove $tiny to do it anew"
        "$python" "$root/models/tools/convert.py" "$root/tests/models/tiny-lcm-onnx" --out "$tiny" --cuda --licence "falgate's own" >&2
    fi
    cp -r "$tiny" "$to/models/tiny"
    if [ "${DRY:-}" = 1 ]; then
        library=$("$root/scripts/fetch-onnxruntime.sh")
        cp "$library" "$to/ort/"
        return
    fi
    library=$(GPU=1 "$root/scripts/fetch-onnxruntime.sh")
    cp "$library" "$(dirname "$library")/libonnxruntime_providers_shared.so" "$to/ort/"
    "$python" "$root/scripts/gpu/slim.py" "$(dirname "$library")/libonnxruntime_providers_cuda.so" \
        "$to/ort/libonnxruntime_providers_cuda.so" "${SM:-90}" >&2
    # The only thing that diffusers needs and a machine with torch may lack.
    mkdir -p "$to/wheels"
    "$python" -m pip download --quiet --no-deps --dest "$to/wheels" diffusers==0.42.1 importlib-metadata zipp >&2 ||
        say "diffusers could not be fetched: torch will not be measured unless it is there already"
}

pack() {
    local out=$1
    mkdir -p "$out"
    rm -f "$out"/part.* "$out/parts.sha256"
    stage_bundle "$work/bundle"
    say "packing"
    tar -C "$work/bundle" -cf - . | xz -T 0 -"${LEVEL:-6}" | split -b "${PART_MIB:-40}m" -d -a 2 - "$out/part."
    (cd "$out" && sha256sum part.* >parts.sha256)
    ls -l "$out" >&2
    say "carry each part, with parts.sha256, and say there: gpu-bench.sh take DIR WHERE"
}

# --- there

take() {
    mkdir -p "$2/parts"
    cp "$1"/part.* "$1/parts.sha256" "$2/parts/"
    say "$(find "$2/parts" -name 'part.*' | wc -l) of $(wc -l <"$2/parts/parts.sha256") parts are here"
}

unpack() {
    local where=$1
    (cd "$where/parts" && sha256sum --check --quiet parts.sha256) || die "parts are missing or damaged: carry them again"
    [ -x "$where/bundle/bin/falgate" ] && return
    rm -rf "$where/bundle"
    mkdir -p "$where/bundle"
    cat "$where"/parts/part.* | "$python" -c 'import sys, tarfile
tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="data")' "$where/bundle"
}

# Folders with CUDA's libraries, one a line.
cuda_folders() {
    [ -z "${CUDA_LIBRARIES:-}" ] || tr ':' '\n' <<<"$CUDA_LIBRARIES"
    "$python" - <<'PY' || true
import importlib.util, pathlib
found = importlib.util.find_spec("nvidia")
for place in found.submodule_search_locations if found else []:
    for folder in sorted({path.parent for path in pathlib.Path(place).glob("**/lib*.so*")}):
        print(folder)
PY
    for folder in /usr/local/cuda/lib64; do [ ! -d "$folder" ] || echo "$folder"; done
}

# What all callers show; the gate reads it from this variable too.
export BENCH_ACCESS_KEY=bench-caller:bench-access

# The options that every use of the model shares.
with() {
    printf -- '--provider\n%s\n--library\n%s\n' "$provider" "$ort"
    local folder
    for folder in "${folders[@]}"; do printf -- '--cuda-libraries\n%s\n' "$folder"; done
}
bench_model() {  # folder, where the JSON goes, more
    local folder=$1 to=$2 options
    shift 2
    mapfile -t options < <(with)
    "$falgate" model bench "$folder" "${options[@]}" --json "$@" >"$to"
}

# Serves a model: folder, side to warm up with. Sets `gate` and `gate_pid`.
serve() {
    free_port; gate=$port
    free_port; admin=$port
    local list
    list=
    [ ${#folders[@]} = 0 ] || list=$(printf '"%s",' "${folders[@]}")
    cat >"$work/falgate.toml" <<CONF
[gate]
listen = "127.0.0.1:$gate"
admin = "127.0.0.1:$admin"
[guard.origins]
allow = ["*"]
[guard.keys]
env = "BENCH_ACCESS_KEY"
[guard.tokens]
keys = "memory"
sockets_per_token = 100
[gate.sockets]
open = 100
per_address = 100
[host.pictures]
min_working_side = 64
[engine]
enabled = true
model = "$1"
library = "$ort"
provider = "$provider"
cuda_libraries = [${list%,}]
warm_up_px = $2
max_batch = 16
[[route]]
endpoint = "fal-ai/lcm-sd15-i2i"
to = "engine"
[telemetry]
level = "warn"
CONF
    "$falgate" serve --config "$work/falgate.toml" 2>"$work/gate.log" & gate_pid=$!
    pids+=("$gate_pid")
    local _
    for _ in $(seq 1200); do
        kill -0 "$gate_pid" 2>/dev/null || { cat "$work/gate.log" >&2; say "the gate ended"; return 1; }
        "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)' "http://127.0.0.1:$admin/readyz" 2>/dev/null && return
        sleep 0.5
    done
    say "the gate is not ready after ten minutes"
    return 1
}
leave() {
    kill "$gate_pid"
    wait "$gate_pid" || true
}

check_library() {
    bench_model "$bundle/models/tiny/$variant" "$results/tiny.json" --size 64 --rounds 1 --batch 1,2 --steps 1
}
check_goldens() {
    serve "$bundle/models/tiny/$variant" 64 || return
    "$python" "$gpu/goldens.py" "http://127.0.0.1:$gate" "$bundle/golden" "$levels" | tee "$results/goldens.txt"
    local done=${PIPESTATUS[0]}
    leave
    return "$done"
}
fill_weights() {
    if [ "$dry" = 1 ]; then
        mkdir -p "$full"
        ln -sfn "$bundle/models/tiny/cpu" "$full/full"
    else
        "$python" "$gpu/skeleton.py" fill "$gpu/sd15" "$bundle/models/tiny/cuda/tokenizer" "$full"
    fi
}
check_parity() {
    local kind
    for kind in $kinds; do
        serve "$full/$kind" "$side" || return
        # In a dry run the gate has the plain graphs, and the reference is the fused ones, written out.
        local reference=$full/$kind
        [ "$dry" != 1 ] || reference=$bundle/models/tiny/cuda
        PYTHONPATH=$bundle/models/tools "$python" "$gpu/parity.py" "$reference" "http://127.0.0.1:$gate" --side 256 | tee -a "$results/parity.txt"
        local done=${PIPESTATUS[0]}
        leave
        [ "$done" = 0 ] || return "$done"
    done
}
measure_engine() {
    local kind
    for kind in $kinds; do bench_model "$full/$kind" "$results/engine-$kind.json" --size "$side" "${table[@]}" || return; done
}
measure_torch() {
    local kind how more
    if compgen -G "$bundle/wheels/*.whl" >/dev/null && ! "$python" -c 'import diffusers' 2>/dev/null; then
        "$python" -m pip install --quiet --no-index --no-deps --target "$bundle/site" "$bundle"/wheels/*.whl || return
    fi
    for kind in $kinds; do
        for how in $hows; do
            more=(--how "$how" --side "$side" --device "$torch_device")
            [ "$kind" = full ] || more+=(--taesd)
            [ "$dry" != 1 ] || more+=(--tiny --rounds 1 --batch "1,2" --steps 1)
            PYTHONPATH=$bundle/site "$python" "$gpu/torch_bench.py" "${more[@]}" >"$results/$how-$kind.json" || return
        done
    done
}
measure_painters() {
    local kind many
    for kind in $kinds; do
        serve "$full/$kind" "$side" || return
        local door=(--url "ws://127.0.0.1:$gate/fal-ai/lcm-sd15-i2i/realtime" --tokens "http://127.0.0.1:$gate/tokens/"
            --sockets-per-token 100 --key "$BENCH_ACCESS_KEY" --side "$side")
        # One picture after the other: what the gate adds to the engine's own time.
        "$load" latency "${door[@]}" --count "$count" >"$results/painters-$kind.md" || { leave; return 1; }
        for many in 1 4 8 16; do
            echo >>"$results/painters-$kind.md"
            "$load" painters "${door[@]}" --painters "$many" --rate "$rate" --seconds "$seconds" >>"$results/painters-$kind.md" ||
                { leave; return 1; }
        done
        leave
    done
}

# One stage: whether it must pass (check) or may fail (measure), its name, its function.
stage() {
    local begin=$SECONDS
    say "$2 …"
    if "$3" > >(tee "$results/$2.log" >&2) 2>&1; then
        say "$2 done in $((SECONDS - begin)) s"
    elif [ "$1" = check ]; then
        die "$2 failed, see $results/$2.log: no number of this machine would mean anything"
    else
        echo "$2" >>"$results/failed"
        say "$2 failed, see $results/$2.log"
    fi
}

run() {
    local where=$1
    results=$(mkdir -p "$2" && cd "$2" && pwd)
    rm -f "$results/failed"
    unpack "$where"
    bundle=$where/bundle gpu=$where/bundle/scripts/gpu full=$where/full
    falgate=$bundle/bin/falgate load=$bundle/bin/socket_load
    ort=$(find "$bundle/ort" -name 'libonnxruntime.so.*')
    dry=${DRY:-0}
    if [ "$dry" = 1 ]; then
        provider=cpu variant=cpu levels=1 side=64 kinds=full hows=eager torch_device=cpu rate=2 seconds=3 count=5
        table=(--rounds 1 --batch "1,2" --steps 1) folders=()
    else
        provider=cuda variant=cuda levels=4 side=512 kinds="full taesd" hows="eager compile" torch_device=cuda rate=8 seconds=20 count=300
        table=(--rounds 20 --batch "1,2,4,8" --steps 1,2,4)
        mapfile -t folders < <(cuda_folders)
        nvidia-smi >"$results/nvidia-smi.txt" || die "there is no NVIDIA driver here"
    fi
    stage check library check_library
    stage check goldens check_goldens
    stage check weights fill_weights
    stage check parity check_parity
    stage measure engine measure_engine
    stage measure torch measure_torch
    stage measure painters measure_painters
    "$python" "$gpu/report.py" "$results" | tee "$results/report.md"
}

dry() {
    export DRY=1
    FALGATE=${FALGATE:-$root/target/debug/falgate} LOAD=${LOAD:-$root/target/debug/examples/socket_load} LEVEL=0 PART_MIB=${PART_MIB:-20} \
        pack "$work/parts"
    # As it would be carried: one part at a time.
    local part
    for part in "$work"/parts/part.*; do
        mkdir "$work/transfer"
        cp "$part" "$work/parts/parts.sha256" "$work/transfer/"
        take "$work/transfer" "$work/there"
        rm -rf "$work/transfer"
    done
    # What runs there is what travelled.
    run "$work/there" "$1"
}

case ${1:-} in
    pack) [ $# = 2 ] ;;
    take | run) [ $# = 3 ] ;;
    dry) [ $# = 2 ] ;;
    *) false ;;
esac || { sed -n '2,/^set -/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//;/^set -/d' >&2; exit 2; }
open_workplace
"$@"
