"""Each module describes its system as `SYSTEM`; it runs once for the module, as real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulators.system import RunningSystem, run_system


@pytest.fixture(scope="module")
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSystem]:
    """Return the module's system, running."""
    with run_system(request.module.SYSTEM, tmp_path_factory.mktemp("system")) as found:
        yield found
