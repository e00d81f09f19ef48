"""The deployment's trust file, renewed whenever the members or their keys change."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gateway.config import GatewayConfig
from gateway.deployment import Deployment, export_trust


def renew_trust_file(settings: GatewayConfig, config: Path) -> Path:
    """Write the trust file beside the configuration at `config` anew; return its path."""
    path = Deployment(config.parent).trust
    replace_file(path, export_trust(settings).to_json())
    return path


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step: a reader sees the old file or the new one, whole."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with fresh.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
