#!/usr/bin/env bash
# The whole gate, the same at home and in CI. Stops at the first failure; prints what each stage took.
#
#   ci/check.sh                 every stage
#   ci/check.sh format tests    these stages only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where the model library must be there, a test that cannot run is a failure. GPU tests stay optional.
export FALGATE_REQUIRE=${FALGATE_REQUIRE-model,redis}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR-never}
# The rooms that can be mounted alone must build alone, and then the whole.
feature_sets=(proxy guard redis upstream playground server)

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'ci/check.sh: %s\n' "$*" >&2
    exit 1
}

# Installs a Debian package for each command that is missing, if it may.
tools() {
    # Shells that are no login shells do not know where rustup put it.
    command -v cargo >/dev/null || export PATH="${CARGO_HOME:-${HOME:-}/.cargo}/bin:$PATH"
    command -v cargo >/dev/null || die "Rust is missing: install it with rustup, then run again"
    local missing=() pair
    for pair in cc:build-essential c++:build-essential make:make git:git openssl:openssl curl:curl python3:python3 pip3:python3-pip node:nodejs npm:npm chromium:chromium redis-server:redis-server; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    # What is fetched is fetched over TLS, and packages without recommendations bring no authorities.
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/ssl/cert.pem ] || missing+=(ca-certificates)
    if [ "${#missing[@]}" -gt 0 ]; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            die "install these packages, then run again: ${missing[*]}"
        fi
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' ||
        die "Node 20 or newer is needed for the real clients, not $(node --version): install one, then run again"
    cargo --version
    local component
    for component in clippy fmt; do
        cargo "$component" --version 2>/dev/null && continue
        command -v rustup >/dev/null || die "cargo $component is missing: install it, then run again"
        rustup component add "${component/#fmt/rustfmt}"
    done
}

format() { cargo fmt --check; }

lints() {
    cargo clippy --locked --all-targets -- -D warnings
    local set targets
    for set in "${feature_sets[@]}"; do
        printf -- '-- only %s\n' "$set"
        targets=(--lib)
        [ "$set" != server ] || targets+=(--bins)
        cargo clippy --locked "${targets[@]}" --no-default-features --features "$set" -- -D warnings
    done
}

docs() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --lib; }

tidy() { cargo test --locked --test tidy --test licences; }

tests() { make --no-print-directory test; }

# Advisories need a database from the network, so they are asked for only where cargo-deny is at hand. Licences are
# always checked, by tests/licences.rs.
advisories() {
    if ! command -v cargo-deny >/dev/null; then
        echo "skipped: cargo-deny is not installed (licences were checked by tests/licences.rs)"
        return
    fi
    cargo deny --locked check
}

# Its lock file follows the package's, so it is not held to the letter.
fuzz() { cargo check --manifest-path fuzz/Cargo.toml --target-dir target/fuzz; }

scripts() {
    local file
    while IFS= read -r file; do
        bash -n "$file" || die "$file is no bash"
        [ -x "$file" ] || die "$file cannot be executed"
    done < <(git ls-files '*.sh' .ci/run)
}

all=(tools format scripts tidy lints docs tests fuzz advisories)
chosen=("$@")
[ "$#" -gt 0 ] || chosen=("${all[@]}")

report=()
for stage in "${chosen[@]}"; do
    [[ " ${all[*]} " == *" $stage "* ]] || die "no stage $stage; there are: ${all[*]}"
    say "$stage"
    started=$SECONDS
    # Not `if "$stage"`: that would switch `set -e` off inside it.
    "$stage"
    report+=("$(printf '%-12s %5d s' "$stage" "$((SECONDS - started))")")
done

say "all stages passed in $SECONDS s"
printf '   %s\n' "${report[@]}"
