#!/bin/sh
# Builds the wheel, installs it with its locked dependencies into an environment of its own and uses it
# from a folder outside the source tree. Run through `make wheel-test`.
set -eu
cd "$(dirname "$0")/.."
root="$PWD"
tools="${VENV:-.venv}/bin"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

"$tools/python" -m hatchling build --target wheel --directory "$scratch/dist"
wheel="$(echo "$scratch"/dist/*.whl)"
"$tools/python" tests/wheel/contents.py "$wheel"

"$tools/python" -m venv "$scratch/venv"
pip() { "$scratch/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install --require-hashes -r requirements.txt
pip install --no-deps --no-index "$wheel"
pip check

# An empty home, no path to the sources, nothing of the caller's settings.
mkdir "$scratch/home" "$scratch/work"
cd "$scratch/work"
installed() { env -i HOME="$scratch/home" TMPDIR="$scratch" PATH="$scratch/venv/bin:/usr/bin:/bin" "$@"; }

installed python -c '
import pathlib, sys, gateway
place = pathlib.Path(gateway.__file__)
assert not place.is_relative_to(sys.argv[1]), f"the sources were used: {place}"
' "$root"
version="$(basename "$wheel" | cut -d- -f2)"
installed gateway version | tee version.txt
grep -Eq "^sluicegate +$version\$" version.txt
installed gateway --help > help.txt
grep -q 'Usage: gateway' help.txt
installed gateway init deployment --origin audit.example.org/log/wheel
installed gateway config check --config deployment/config.toml
installed gateway demo --companies 200 | tee demo.txt
tail -n 1 demo.txt | grep -Eq '^demo: [0-9]+ released, [0-9]+ denied, log of [0-9]+ entries verified$'
echo "wheel-test: $(basename "$wheel") works outside the source tree"
