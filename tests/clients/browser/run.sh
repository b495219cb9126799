#!/usr/bin/env bash
# Pages in a real browser. Called by ../run.sh; arguments name test files: `browser/run.sh playground shim`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() { printf 'tests/clients/browser: %s\n' "$*" >&2; exit 1; }

command -v node >/dev/null || die "needs Node 20 or newer"
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || die "needs Node 20 or newer, not $(node --version)"

# Debian's browser, unless FALGATE_CHROMIUM names another one.
if [ -z "${FALGATE_CHROMIUM:-}" ] && ! command -v chromium >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "needs Chromium: install the package chromium, or name a browser in FALGATE_CHROMIUM"
    fi
    echo "installing Chromium" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
FALGATE_CHROMIUM=${FALGATE_CHROMIUM:-$(command -v chromium)}
export FALGATE_CHROMIUM

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
# One at a time: a browser and a model fill two cores.
exec node --test --test-concurrency=1 --test-timeout=300000 --test-reporter=../js/harness/reporter.mjs --test-reporter-destination=stdout "${files[@]}"
