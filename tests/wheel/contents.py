"""Compare a wheel with the source tree: `python tests/wheel/contents.py WHEEL`.

Exit codes: 0 everything is in it and nothing else, 1 it is not; standard error says what.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = "gateway/_shipped/policies"


def expected(root: Path) -> set[str]:
    """Return the names of the files that a wheel made from `root` must hold, its metadata apart."""
    package = {
        path.relative_to(root).as_posix()
        for path in files(root / "gateway")
        if path.suffix in {".py", ".pyi"} or path.name == "py.typed"
    }
    policies = {
        f"{SHIPPED}/{path.relative_to(root / 'policies').as_posix()}" for path in files(root / "policies")
    }
    return package | policies


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def problems(wheel: Path, root: Path) -> list[str]:
    """Return what is missing from `wheel` and what has no business in it, one line each."""
    wanted = expected(root)
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    return [f"missing: {name}" for name in sorted(wanted - held)] + [
        f"too much: {name}" for name in sorted(held - wanted)
    ]


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]), ROOT)
    sys.stderr.write("".join(f"{line}\n" for line in found))
    sys.exit(bool(found))
