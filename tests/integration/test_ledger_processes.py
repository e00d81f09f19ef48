"""One quota in SQLite, raced by several processes, some of them killed: never a record too much."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from gateway.ledger.sqlite import SqliteLedger
from tests.simulators.ledger import MONTHLY, charge, on, reserve

LIMIT = 600
NAMES = ("victim", "second", "third", "fourth")

SPEND = """
import os, signal, sys, threading
from pathlib import Path
from gateway.ledger.accounts import Settlement
from gateway.ledger.sqlite import SqliteLedger
from tests.simulators.ledger import MONTHLY, charge, reserve

ledger = SqliteLedger(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2] == "victim":
    # From within: from without it might have ended before it is struck.
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()
for turn in range(10_000):
    exchange = f"{sys.argv[2]}-{turn}"
    if reserve(ledger, 3, charge(MONTHLY, 600), exchange=exchange) is not None:
        break
    # Two of three leave; said only now that they do.
    print(2, flush=True)
    ledger.carry_out([Settlement(exchange, 2)])
"""


def test_processes_that_race_and_are_killed_never_exceed(tmp_path: Path) -> None:
    """Control: those that are not killed use the quota up."""
    path = tmp_path / "ledger.db"
    SqliteLedger(path).close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SPEND, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for name in NAMES
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    victim = processes[0]
    left = sum(int(line) for process in processes for line in process.communicate()[0].splitlines())
    assert victim.returncode == -signal.SIGKILL
    assert all(process.returncode == 0 for process in processes[1:])
    with closing(SqliteLedger(path)) as ledger:
        unsettled = sum(hold.records for hold in ledger.holds())
        assert unsettled <= 3, "one process was killed, with one exchange under way"
        spent = on(ledger, MONTHLY)
        # What the victim had said and not settled is still held in full.
        assert left <= spent <= left + 3
        assert LIMIT - 3 < spent <= LIMIT
        assert reserve(ledger, LIMIT - spent, charge(MONTHLY, LIMIT), exchange="rest") is None
        assert reserve(ledger, 1, charge(MONTHLY, LIMIT), exchange="more") is not None
