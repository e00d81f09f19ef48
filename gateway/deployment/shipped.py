"""The files that come with the product: policies and dataset descriptions."""

from __future__ import annotations

from pathlib import Path

import gateway
from gateway.errors import ConfigError


def shipped_policies() -> Path:
    """Return the folder of the shipped policies: in an installed package, or beside it in the sources."""
    package = Path(gateway.__file__).parent
    for candidate in (package / "_shipped" / "policies", package.parent / "policies"):
        if (candidate / "bundle.yaml").is_file():
            return candidate
    raise ConfigError("The shipped policies are missing; install the package again.")
