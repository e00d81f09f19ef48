#!/usr/bin/env python3
"""Install the OPA server that this release is tested with: `deploy/opa/install.py [DIRECTORY]`.

Builds it through the Go toolchain and the Go module proxy (which checks the source against the public
checksum database) and puts it into DIRECTORY, by default `.tools/bin` beside this repository's Makefile.
Exit codes: 0 installed or there already, 1 the build failed, 2 the toolchain is missing or too old.
"""

# ruff: noqa: S603, T201 - a tool for the terminal that runs the toolchain, by its path

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "1.20.2"
MODULE = f"github.com/open-policy-agent/opa@v{VERSION}"
MINIMUM_GO = (1, 26)
BUILD_LIMIT_S = 1800
ASK_LIMIT_S = 30


def main(arguments: list[str]) -> int:
    """Install OPA into the directory named, or the default one; return the exit code."""
    directory = Path(arguments[0] if arguments else Path(__file__).parents[2] / ".tools/bin").resolve()
    binary = directory / "opa"
    if installed_version(binary) == VERSION:
        print(f"opa {VERSION} is installed: {binary}")
        return 0
    go = shutil.which("go")
    if go is None:
        print(
            f"opa cannot be built: no Go toolchain on PATH. Install Go {'.'.join(map(str, MINIMUM_GO))} or "
            "later (https://go.dev/dl/), or put an opa binary on PATH yourself. The gateway works "
            "without it: the embedded engine needs nothing.",
            file=sys.stderr,
        )
        return 2
    found = go_version(go)
    if found < MINIMUM_GO:
        print(
            f"opa cannot be built: Go {'.'.join(map(str, found))} is too old; OPA {VERSION} needs "
            f"{'.'.join(map(str, MINIMUM_GO))} or later.",
            file=sys.stderr,
        )
        return 2
    directory.mkdir(parents=True, exist_ok=True)
    print(f"building opa {VERSION} into {directory} (some minutes the first time)", flush=True)
    environment = {**os.environ, "GOBIN": str(directory), "CGO_ENABLED": "0"}
    command = [go, "install", MODULE]
    try:
        finished = subprocess.run(command, env=environment, check=False, timeout=BUILD_LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"opa was not built within {BUILD_LIMIT_S} s; is the Go module proxy slow?", file=sys.stderr)
        return 1
    if finished.returncode != 0 or installed_version(binary) != VERSION:
        print("opa was not built; the lines above say why.", file=sys.stderr)
        return 1
    print(f"opa {VERSION} is installed: {binary}")
    return 0


def installed_version(binary: Path) -> str | None:
    """Return the version of the OPA at `binary`; None if there is none that runs."""
    try:
        said = subprocess.run(
            [binary, "version"], capture_output=True, check=True, text=True, timeout=ASK_LIMIT_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"^Version: (\S+)$", said, re.MULTILINE)
    return match[1] if match else None


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
