#!/usr/bin/env bash
# Fetches the ONNX Runtime library that the engine loads, and prints where it lies as its last line.
#
#   scripts/fetch-onnxruntime.sh           the CPU build
#   GPU=1 scripts/fetch-onnxruntime.sh     the CUDA 13 build (x86-64 only); it runs on machines without a GPU too
#   WHEEL=FILE scripts/fetch-onnxruntime.sh   from a wheel that is already here, for machines without a network
#
# The library comes out of a Python wheel, fetched by pip and pinned by its hash, into target/onnxruntime/.
# Python is needed for that only. A second run is offline and instant. The wheel's licence files lie beside the library.
set -euo pipefail

version=1.31.1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/target/onnxruntime

say() { printf 'fetch-onnxruntime: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

case ${GPU:-0} in
    0 | '' | no | false) kind=cpu package=onnxruntime ;;
    *) kind=gpu package=onnxruntime-gpu ;;
esac
machine=$(uname -m)
[ "$machine" = arm64 ] && machine=aarch64
platform=manylinux_2_28_$machine

# One wheel a machine, whatever Python fetches it: the library inside does not depend on Python's version.
case $(uname -s)-$kind-$machine in
    Linux-cpu-x86_64) sha256=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536 ;;
    Linux-cpu-aarch64) sha256=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc ;;
    Linux-gpu-x86_64) sha256=05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7 ;;
    *) die "no pinned $package $version for $(uname -s) on $machine; install ONNX Runtime 1.24 or newer yourself" \
        "and name its library in ORT_DYLIB_PATH" ;;
esac

folder=$cache/$version-$kind
library=$folder/libonnxruntime.so.$version
if [ -s "$library" ]; then
    say "$package $version is already here"
    printf '%s\n' "$library"
    exit 0
fi

python=
for candidate in ${PYTHON:-} python3 python; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || die "needs Python 3.8 or newer to fetch ONNX Runtime; install it, or set ORT_DYLIB_PATH to a library that you have"

mkdir -p "$cache"
work=$(mktemp -d "$cache/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ -n "${WHEEL:-}" ]; then
    [ -f "$WHEEL" ] || die "WHEEL names no file: $WHEEL"
    wheel=$WHEEL
else
    "$python" -m pip --version >/dev/null 2>&1 ||
        die "pip is missing for $(command -v "$python"); install it (Debian and Ubuntu: apt install python3-pip)," \
            "or run again with WHEEL= and a wheel file, or set ORT_DYLIB_PATH to a library that you have"
    say "fetching $package $version for $machine"
    "$python" -m pip download --disable-pip-version-check --no-deps --only-binary=:all: \
        --implementation cp --python-version 3.12 --abi cp312 --platform "$platform" \
        --dest "$work" "$package==$version" >&2 || die "pip could not fetch $package $version; its own message stands above"
    wheel=$(find "$work" -maxdepth 1 -name '*.whl' | head -n 1)
    [ -n "$wheel" ] || die "pip said yes but left no wheel"
fi

say "checking and unpacking $(basename "$wheel")"
mkdir "$work/out"
"$python" - "$wheel" "$sha256" "$work/out" "$version" <<'PY' || exit 1
import hashlib, os, shutil, sys, zipfile

wheel, want, out, version = sys.argv[1:]
digest = hashlib.sha256()
with open(wheel, "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
if digest.hexdigest() != want:
    sys.exit(f"fetch-onnxruntime: {os.path.basename(wheel)} has the hash {digest.hexdigest()}, not the pinned {want}; nothing was unpacked")

keep = {
    f"libonnxruntime.so.{version}", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so",
    "LICENSE", "ThirdPartyNotices.txt",
}
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        folder, name = os.path.split(entry.filename)
        if name in keep and folder in ("onnxruntime", "onnxruntime/capi"):
            print(f"fetch-onnxruntime:   {name}, {entry.file_size / 1e6:.1f} MB", file=sys.stderr)
            with archive.open(entry) as source, open(os.path.join(out, name), "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
missing = keep - set(os.listdir(out)) - {"libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"}
if missing:
    sys.exit(f"fetch-onnxruntime: the wheel lacks {', '.join(sorted(missing))}")
PY

# All or nothing: the folder appears complete, also when two runs race.
mv -T "$work/out" "$folder" 2>/dev/null || [ -s "$library" ] || die "cannot move the files to $folder"
say "ready"
printf '%s\n' "$library"
