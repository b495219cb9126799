#!/usr/bin/env bash
# The JavaScript clients. Called by ../run.sh; arguments name test files: `js/run.sh run errors`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() { printf 'tests/clients/js: %s\n' "$*" >&2; exit 1; }

command -v node >/dev/null || die "needs Node 20 or newer"
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || die "needs Node 20 or newer, not $(node --version)"

# Installed once for each lock file.
stamp=node_modules/.installed
if ! cmp -s package-lock.json "$stamp"; then
    command -v npm >/dev/null || die "needs npm, to install the clients"
    npm ci --no-audit --no-fund --loglevel=error >&2
    cp package-lock.json "$stamp"
fi

files=()
for name in "$@"; do files+=("$name.test.mjs"); done
[ ${#files[@]} -gt 0 ] || files=(*.test.mjs)
# Node 20 has a WebSocket, and hides it.
exec node --experimental-websocket --test --test-concurrency=2 --test-timeout=300000 --test-reporter=./harness/reporter.mjs --test-reporter-destination=stdout "${files[@]}"
