#!/bin/sh
# Makes the Python code and type stubs from proto/ into the folder given (default: the project root).
# Run through `make proto`; a test compares a fresh run with what is checked in.
set -eu
cd "$(dirname "$0")/.."
out="${1:-.}"
bin="${VENV:-.venv}/bin"
common="$("$bin/python" -c 'import os, google.rpc.status_pb2 as m; print(os.path.dirname(os.path.dirname(os.path.dirname(m.__file__))))')"
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I proto -I "$common" \
    --python_out="$out" --mypy_out="quiet:$out" --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" \
    proto/gateway/api/v1/*.proto
# A file without a service has no gRPC half.
rm -f "$out"/gateway/api/v1/evidence_pb2_grpc.py*
