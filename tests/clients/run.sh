#!/usr/bin/env bash
# Runs fal's own clients, unmodified, against the built gate: every folder here that has a run.sh of its own.
#
#   tests/clients/run.sh          all of them
#   tests/clients/run.sh js       only these
#   FALGATE_BIN=target/release/falgate tests/clients/run.sh
#
# Installs the pinned clients itself; a second run finds them installed. Builds nothing. The last line is
# `N passed, N failed`, and the exit status is non-zero unless all passed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

die() { printf 'tests/clients: %s\n' "$*" >&2; exit 1; }

binary=${FALGATE_BIN:-${CARGO_TARGET_DIR:-target}/debug/falgate}
[ "${binary#/}" != "$binary" ] || binary=$root/$binary
export FALGATE_BIN=$binary
[ -x "$binary" ] || die "no $binary: run cargo build first, or name a built falgate in FALGATE_BIN"
command -v openssl >/dev/null || die "needs openssl, for certificates of tests"
mkdir -p "$root/target/clients"

suites=("$@")
if [ ${#suites[@]} -eq 0 ]; then
    for script in "$here"/*/run.sh; do suites+=("$(basename "$(dirname "$script")")"); done
fi

passed=0 failed=0
for suite in "${suites[@]}"; do
    printf '== clients: %s\n' "$suite"
    log=$root/target/clients/$suite.log
    status=0
    "$here/$suite/run.sh" 2>&1 | tee "$log" || status=$?
    # The last line counts. A suite that died before it could count is one failure more.
    last=$(tail -n 1 "$log")
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
        passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
        [ "$status" -eq 0 ] || [ "${BASH_REMATCH[2]}" -gt 0 ] || failed=$((failed + 1))
    else
        printf '%s ended with status %s and no count\n' "$suite" "$status"
        failed=$((failed + 1))
    fi
done

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
