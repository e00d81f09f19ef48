#!/usr/bin/env python3
"""Build the foreign programs that check our log, or call our gateway: `tests/foreign/install.py [DIRECTORY]`.

Through the Go toolchain and the Go module proxy, at the versions that go.mod and go.sum beside this file
pin, into DIRECTORY, by default `.tools/bin` beside this repository's Makefile. What is up to date is not
built again. Exit codes: 0 built or there already, 1 a build failed, 2 the toolchain is missing or too old.
"""

# ruff: noqa: T201 - a tool for the terminal that runs the toolchain, by its path

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = {
    "tlog-checker": "./checker",
    "tessera-bench": "./tesserabench",
    "tessera-fsck": "github.com/transparency-dev/tessera/cmd/fsck",
    "litewitness": "filippo.io/torchwood/cmd/litewitness",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl",
}
MINIMUM_GO = (1, 26)
BUILD_LIMIT_S = 900
ASK_LIMIT_S = 30


def main(arguments: list[str]) -> int:
    """Build all programs into the directory named, or the default one; return the exit code."""
    directory = Path(arguments[0] if arguments else HERE.parents[1] / ".tools/bin").resolve()
    stamp = directory / ".foreign"
    built = all((directory / name).exists() for name in PROGRAMS)
    if built and stamp.exists() and stamp.read_text() == sources():
        print(f"foreign programs are installed: {directory}")
        return 0
    go = shutil.which("go")
    wanted = ".".join(map(str, MINIMUM_GO))
    if go is None or go_version(go) < MINIMUM_GO:
        print(
            f"the foreign programs cannot be built: no Go {wanted} or later on PATH (https://go.dev/dl/). "
            "The tests that need them are skipped; the gateway works without them.",
            file=sys.stderr,
        )
        return 2
    directory.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0"}
    for name, package in PROGRAMS.items():
        print(f"building {name} from {package}", flush=True)
        command = [go, "build", "-mod=readonly", "-trimpath", "-o", str(directory / name), package]
        try:
            subprocess.run(command, cwd=HERE, env=environment, check=True, timeout=BUILD_LIMIT_S)
        except subprocess.TimeoutExpired:
            print(
                f"{name} was not built within {BUILD_LIMIT_S} s; is the Go module proxy slow?",
                file=sys.stderr,
            )
            return 1
        except subprocess.CalledProcessError:
            print(f"{name} was not built; the lines above say why.", file=sys.stderr)
            return 1
    stamp.write_text(sources())
    print(f"foreign programs are installed: {directory}")
    return 0


def sources() -> str:
    """Return a digest of everything that the programs are built from."""
    digest = hashlib.sha256()
    for path in sorted([HERE / "go.mod", HERE / "go.sum", *HERE.glob("*/*.go")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def go_version(go: str) -> tuple[int, int]:
    """Return major and minor version of the Go toolchain `go`; (0, 0) if it does not say."""
    try:
        said = subprocess.run(
            [go, "version"], capture_output=True, check=True, text=True, timeout=ASK_LIMIT_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0, 0
    match = re.search(r"go(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
