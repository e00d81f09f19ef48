"""A process that contributes to a vault and kills itself before the n-th statement that it runs there.

    python -m tests.simulators.vault_process FOLDER N [careless]

It prints `staged COUNT` when that is acknowledged, and `committed VERSION`. A careless one prints before it
has done it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from gateway.clock import system_clock
from gateway.vault.sqlite import SqliteEngine
from tests.simulators.vault import LOANS, OpenedVault, contract, lines, loan

PIECE = 300
PIECES = 3
TERMS = contract()


def contribute(folder: Path, kill_at: int, *, careless: bool) -> None:
    engine = SqliteEngine(folder / "vault.db")
    vault = OpenedVault(engine, folder, system_clock)
    statements = 0

    def count(_: str) -> None:
        nonlocal statements
        statements += 1
        if statements == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    engine._writer.set_trace_callback(count)
    staged = vault.writer.begin(TERMS, LOANS, "b1")
    while staged.records < PIECE * PIECES and staged.version is None:
        first = staged.records
        if careless:
            _tell("staged", first + PIECE)
        piece = lines([loan(number) for number in range(first, first + PIECE)])
        staged = vault.writer.stage(staged, piece, resume=str(first + PIECE).encode())
        _tell("staged", staged.records)
    if careless:
        _tell("committed", 1)
    version = staged.version or vault.writer.commit(staged)
    _tell("committed", version)
    _tell("statements", statements)


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    contribute(Path(sys.argv[1]), int(sys.argv[2]), careless="careless" in sys.argv)
