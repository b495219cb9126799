#!/usr/bin/env bash
# The Python client. Called by ../run.sh; arguments name test files: `python/run.sh run storage`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(cd ../../.. && pwd)

die() { printf 'tests/clients/python: %s\n' "$*" >&2; exit 1; }

command -v openssl >/dev/null || die "needs openssl, for certificates of tests"
command -v python3 >/dev/null || die "needs Python 3.10 or newer"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "needs Python 3.10 or newer, not $(python3 --version)"

# Installed once for each list of requirements.
venv=$root/target/clients/python-venv
stamp=$venv/.installed
if ! cmp -s requirements.txt "$stamp"; then
    python3 -m venv --clear "$venv" || die "needs the venv module of Python"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt >&2
    cp requirements.txt "$stamp"
fi

export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" run.py "$@"
