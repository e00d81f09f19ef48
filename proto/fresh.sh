#!/bin/sh
# Makes the code anew beside what is checked in and fails if they differ. Run through `make check`.
set -eu
cd "$(dirname "$0")/.."
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT
sh proto/generate.sh "$made"
diff --recursive --brief --exclude=__init__.py --exclude=__pycache__ "$made/gateway/api" gateway/api \
    || { echo "run: make proto" >&2; exit 1; }
