#!/bin/sh
# Runs `buf lint` on proto/ with the google.api files of the installed googleapis package beside it,
# in a workspace of its own, so that no module has to be fetched from anywhere.
set -eu
cd "$(dirname "$0")/.."
bin="${VENV:-.venv}/bin"
workspace="$(mktemp -d)"
trap 'rm -rf "$workspace"' EXIT
common="$("$bin/python" -c 'import os, google.rpc.status_pb2 as m; print(os.path.dirname(os.path.dirname(m.__file__)))')"
mkdir -p "$workspace/common/google/api"
cp "$common"/api/field_behavior.proto "$workspace/common/google/api/"
cp -r proto "$workspace/proto"
rm "$workspace/proto/buf.yaml"
{
    echo 'version: v2'
    echo 'modules:'
    echo '  - path: proto'
    echo '  - path: common'
    echo '    lint: {ignore: [common]}'
    sed -n '/^lint:/,$p' proto/buf.yaml
} > "$workspace/buf.yaml"
"$bin/buf" lint "$workspace" "$@"
