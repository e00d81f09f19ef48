"""SIGKILL to the gateway at random points of an upload: the batch ends as one that was never disturbed."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Choice
from gateway.pki.tls13 import require_tls13
from tests.simulators.campaign import scaled
from tests.simulators.contributing import DATASET, ContributionWorld, lines, records

require_tls13()

KILLS = scaled(4, 50)
ROOT = Path(__file__).parents[2]


def launch(directory: Path, port: int) -> tuple[subprocess.Popen[str], int]:
    """Start a gateway as a process of its own; return it and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.simulators.contributing", str(directory), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the gateway did not start"
    return process, int(line)


@pytest.mark.timeout(3600)
async def test_a_gateway_killed_at_random_points_takes_the_batch_once_and_whole(tmp_path: Path) -> None:
    world = ContributionWorld(tmp_path)
    rows: list[Any] = [*records(20_000), *records(15), {"name": "x"}]
    dice = random.Random(11)
    process, port = await asyncio.to_thread(launch, tmp_path, 0)
    kills = batch = 0
    try:
        while kills < KILLS:
            batch += 1
            upload = asyncio.ensure_future(
                world.contribute(
                    rows,
                    batch=f"killed-{batch}",
                    choice=Choice.ACCEPT_VALID,
                    client=world.client(port=port),
                    patience_s=120.0,
                )
            )
            for _ in range(2):
                done, _ = await asyncio.wait({upload}, timeout=dice.uniform(0.05, 0.9))
                if done:
                    break
                process.kill()
                process.communicate()
                kills += 1
                process, port = await asyncio.to_thread(launch, tmp_path, port)
            ended = await upload
            assert (ended.accepted, ended.report.accepted, ended.report.rejected) == (True, 20_000, 16)
            assert (ended.report.duplicates, ended.report.examples[0].row) == (15, 20_001)
    finally:
        process.kill()
        process.communicate()
    await world.start()
    try:
        assert world.vault.visible(DATASET) == lines(rows[:20_000]) * batch
        assert world.vault.hidden() == 0
        accepted = world.entries("contribution.accepted")
        assert len(accepted) == len({entry.exchange for entry in accepted}) == batch
        world.log.verify()
    finally:
        await world.stop()
