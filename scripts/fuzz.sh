#!/usr/bin/env bash
# Builds the fuzz targets with the stable compiler and runs each for a while, over its seeds and what earlier runs found.
#
#   scripts/fuzz.sh                      every target, 60 seconds each
#   SECONDS_EACH=600 scripts/fuzz.sh target_url http1_head
#
# A failing input lands in target/fuzz-run/found/<target>/; put it into fuzz/seeds/<target>/ with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${SECONDS_EACH:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
folder=target/fuzz-run
# What cargo-fuzz passes, without a sanitizer: falgate has no unsafe code, and sanitizers need an unstable compiler.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions"
export CARGO_PROFILE_DEV_OPT_LEVEL=1

targets=("$@")
[ "$#" -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\([a-z0-9_]*\)"$/\1/p' fuzz/Cargo.toml)
cargo build --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$folder"
for target in "${targets[@]}"; do
    mkdir -p "$folder/corpus/$target" "$folder/found/$target"
    printf '== %s, %s s\n' "$target" "$seconds"
    "$folder/$host/debug/$target" "$folder/corpus/$target" "fuzz/seeds/$target" \
        -artifact_prefix="$folder/found/$target/" -max_total_time="$seconds" -max_len=8192 -timeout=10 \
        -rss_limit_mb=1024 -print_final_stats=1
done
