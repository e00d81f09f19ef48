"""Looking at files: whose they are, who may write or read them, when certificates and keys end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.config import GatewayConfig
from gateway.doctor.finding import Finding, State
from gateway.evidence.keys import SigningKey
from gateway.pki.certificates import certificate_days_left, key_fingerprint, load_certificate
from gateway.pki.example_keys import keyring_fingerprint, refuse_example_keys
from gateway.pseudonym import Keyring

_SOON_DAYS: Final = 30
_ROOT: Final = 0
_OTHERS_READ_OR_WRITE: Final = 0o077
_OTHERS_WRITE: Final = 0o022


def examine_modes(config: GatewayConfig, config_file: Path, trust_file: Path) -> Iterator[Finding]:
    """Look whether anybody else could read a secret, or write what decides."""
    problems = 0
    looked_at = 0
    for path, forbidden in _watched(config, config_file, trust_file):
        looked_at += 1
        for detail, advice in _problems(path, forbidden):
            problems += 1
            yield Finding("files", State.FAIL, detail, advice)
    if not problems:
        yield Finding("files", State.OK, f"{looked_at} files and folders are ours and closed to others")


def _watched(config: GatewayConfig, config_file: Path, trust_file: Path) -> Iterator[tuple[Path, int]]:
    """Yield every file and folder that matters, with the mode bits that it must not have."""
    secrets = (
        config.tls.key,
        config.log.key,
        config.keys.signing,
        config.keys.keyring,
        config.keys.page_tokens,
    )
    places = (config.log.database, config.members.database, config.contracts_place)
    databases = [place for place in places if isinstance(place, Path)]
    if config.policy.activation is not None:
        databases.append(config.policy.activation.database)
    private = [*secrets, *(path for path in databases if path.exists())]
    private += [
        companion
        for path in databases
        for suffix in ("-wal", "-shm")
        if (companion := path.with_name(path.name + suffix)).exists()
    ]
    for path in private:
        yield path, _OTHERS_READ_OR_WRITE
    public = [config_file, trust_file, config.tls.certificate, config.tls.client_ca]
    folders = {path.parent for path in (*private, *public)}
    for folder in (config.policy.directory, config.catalogue):
        folders.add(folder)
        public += [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".")]
    for path in (*public, *sorted(folders)):
        if path.exists():
            yield path, _OTHERS_WRITE


def _problems(path: Path, forbidden: int) -> Iterator[tuple[str, str]]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        yield f"{path} is missing", "Restore it, or correct the configuration."
        return
    if status.st_uid not in {os.geteuid(), _ROOT}:
        yield f"{path} belongs to another user", f"Run: chown $(id -u) {path}, if it is to be trusted."
    mode = stat.S_IMODE(status.st_mode)
    # Anybody may write to a folder with the sticky bit, but not exchange what is another's.
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX):
        return
    if mode & forbidden:
        right = "go-rwx" if forbidden == _OTHERS_READ_OR_WRITE else "go-w"
        may = "read or write" if forbidden == _OTHERS_READ_OR_WRITE else "write"
        yield f"others may {may} {path} (mode {mode:04o})", f"Run: chmod {right} {path}"


def examine_certificates(config: GatewayConfig, now: datetime) -> Iterator[Finding]:
    """Look how long the certificates last."""
    for name, path in (
        ("TLS certificate", config.tls.certificate),
        ("members' authority", config.tls.client_ca),
    ):
        certificate = load_certificate(path.read_bytes())
        refuse_example_keys([key_fingerprint(certificate)], demo=config.demo)
        yield _lasting(name, certificate_days_left(certificate, now), f"Renew {path}.")


def examine_keys(config: GatewayConfig, now: datetime) -> Iterator[Finding]:
    """Look whether keys are our own, and how long the pseudonyms' epoch lasts."""
    ids = [SigningKey.load(path).key_id for path in (config.keys.signing, config.log.key)]
    keyring = Keyring.load(config.keys.keyring)
    refuse_example_keys(
        [*ids, *(keyring_fingerprint(epoch.key) for epoch in keyring.epochs)], demo=config.demo
    )
    if config.demo:
        yield Finding(
            "keys",
            State.WARN,
            "example keys are allowed (`demo`)",
            "Never set `demo` where real records are.",
        )
    else:
        yield Finding("keys", State.OK, "none is a published example")
    days = (keyring.current(now).not_after - now).total_seconds() / 86_400
    yield _lasting("key epoch", days, "Run `gateway keys rotate`, after telling recipients.")


def _lasting(check: str, days: float, advice: str) -> Finding:
    if days < 0:
        return Finding(check, State.FAIL, "has ended", advice)
    if days < _SOON_DAYS:
        return Finding(check, State.WARN, f"ends in {int(days)} days", advice)
    return Finding(check, State.OK, f"in force for {int(days)} days")
