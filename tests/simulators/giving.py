"""Companies that agree on a contract and give records under it, by the commands that they would use."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from gateway.client import ClientError, Page
from tests.simulators.commands import run_command
from tests.simulators.system import RunningSystem
from tests.simulators.waiting import wait_until

NOT_YET = frozenset({"DATASET_UNKNOWN", "CONTRACT_MISSING", "CONTRACT_NOT_IN_FORCE", "PROVIDER_REFUSED"})
"""What a query is refused for until the gateway knows of a new contract, and of what came under it."""


def done(system: RunningSystem, member: str, *words: object) -> Any:
    """Run a command as a member; fail unless it succeeds; return what it printed as JSON."""
    code, out, errors = system.cli(member, *words, "--output", "json")
    assert code == 0, errors or out
    return json.loads(out)


def draft(
    folder: Path,
    description: str,
    giver: str,
    taker: str,
    *,
    name: str,
    purposes: Sequence[str],
    key: Sequence[str] = (),
) -> Path:
    """Have a contract drafted over the dataset that `description` (ODCS) tells of, and complete it."""
    described = folder / f"{name}-description.yaml"
    described.write_text(description, encoding="utf-8")
    file = folder / f"{name}.yaml"
    parties = ("--contributor", giver, "--recipient", taker)
    drafted = run_command("contract", "draft", described, *parties, "--name", name, "--out", file)
    assert drafted.returncode == 0, drafted.stderr
    terms = yaml.safe_load(file.read_text(encoding="utf-8"))
    terms["purposes"] = list(purposes)
    terms["datasets"][0]["key"] = list(key)
    begins = datetime.now(UTC) - timedelta(days=1)
    terms["valid_from"] = f"{begins:%Y-%m-%dT%H:%M:%SZ}"
    file.write_text(yaml.safe_dump(terms, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def agree(system: RunningSystem, file: Path, giver: str, taker: str) -> str:
    """Have the giver propose the contract in `file` and the taker sign it; return its digest."""
    proposed = done(system, giver, "contract", "propose", file)
    assert proposed["state"] == "proposed"
    signed = done(system, taker, "contract", "sign", proposed["contract"], "--digest", proposed["digest"])
    assert (signed["state"], signed["digest"]) == ("active", proposed["digest"])
    return str(signed["digest"])


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as a company's own system would export them."""
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def answered(system: RunningSystem, member: str, dataset: str, **parts: Any) -> Page:
    """Ask until the gateway knows of what was contributed; return its answer."""
    found: list[Page] = []

    def is_answered() -> bool:
        try:
            found.append(system.client(member).query(dataset, **parts))
        except ClientError as error:
            if error.reason not in NOT_YET:
                raise
            return False
        return True

    wait_until(is_answered)
    return found[-1]
