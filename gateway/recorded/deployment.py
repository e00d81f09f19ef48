"""What a gateway decides and speaks with, told by digests, and how it differs from the last start."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from gateway.clock import rfc3339
from gateway.config import GatewayConfig
from gateway.errors import ConfigError
from gateway.evidence.canonical import encode_canonical
from gateway.model import Entry, EntryKind
from gateway.pki.example_keys import keyring_fingerprint
from gateway.policy.bundle import Bundle
from gateway.pseudonym import Keyring

PARTS: Final[Mapping[str, EntryKind]] = {
    "policy": EntryKind.POLICY_CHANGED,
    "catalogue": EntryKind.CATALOGUE_CHANGED,
    "configuration": EntryKind.CONFIGURATION_CHANGED,
    "authorities": EntryKind.AUTHORITIES_CHANGED,
    "signing_key": EntryKind.KEYS_CHANGED,
    "keyring": EntryKind.KEYS_CHANGED,
}
"""The parts, and the kind of entry that tells of a change."""

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")
_SHORT: Final = 16


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """Digests of everything that decides what a gateway does; no secret can be learnt from them."""

    digests: Mapping[str, str]
    """`sha256:<hex>` (of a key its id) of each part of `PARTS`."""
    settings: Mapping[str, str]
    """Setting, such as `log.queue`, to the first 16 hex digits of the digest of its value."""

    def detail(self) -> dict[str, str]:
        """Return it as part of the detail of `gateway.started`."""
        digests = {part: digest for part, digest in self.digests.items() if part != "policy"}
        settings = " ".join(f"{name}={digest}" for name, digest in sorted(self.settings.items()))
        return {**digests, "settings": settings}

    @classmethod
    def of(cls, started: Entry) -> DeploymentState:
        """Return what an entry `gateway.started` tells; one of an older release tells less."""
        digests = {part: started.detail[part] for part in PARTS if part in started.detail}
        if started.bundle:
            digests["policy"] = started.bundle
        pairs = (pair.partition("=") for pair in started.detail.get("settings", "").split())
        return cls(digests, {name: digest for name, _, digest in pairs})


@dataclass(frozen=True, slots=True)
class PartChange:
    """A part that is not what it was."""

    part: str
    before: str
    after: str
    settings: tuple[str, ...] = ()
    """Of the configuration: the settings that changed. Never a value."""

    @property
    def kind(self) -> EntryKind:
        """The kind of entry that tells of it."""
        return PARTS[self.part]

    def detail(self) -> dict[str, str]:
        """Return the detail of that entry."""
        told = {"part": self.part, "before": self.before, "after": self.after}
        return {**told, "settings": ",".join(self.settings)} if self.settings else told


def observe_deployment(config: GatewayConfig, policy_digest: str, signing_key_id: str) -> DeploymentState:
    """Return the state of the files as they are; raise `ConfigError` if one cannot be read."""
    settings = {
        name: hashlib.sha256(encode_canonical([name, value])).hexdigest()[:_SHORT]
        for name, value in settings_in_force(config)
    }
    return DeploymentState(
        {
            "policy": policy_digest,
            "catalogue": catalogue_digest(config.catalogue),
            "configuration": _digest(settings),
            "authorities": _digest(hashlib.sha256(_read(config.tls.client_ca)).hexdigest()),
            "signing_key": signing_key_id,
            "keyring": keyring_digest(Keyring.load(config.keys.keyring)),
        },
        settings,
    )


def changes_between(before: DeploymentState, after: DeploymentState) -> list[PartChange]:
    """Return what differs, among the parts that both tell of."""
    changes = []
    for part in PARTS:
        old, new = before.digests.get(part), after.digests.get(part)
        if old is None or new is None or old == new:
            continue
        settings: tuple[str, ...] = ()
        if part == "configuration":
            names = before.settings.keys() | after.settings.keys()
            settings = tuple(
                sorted(name for name in names if before.settings.get(name) != after.settings.get(name))
            )
        changes.append(PartChange(part, old, new, settings))
    return changes


def settings_in_force(config: GatewayConfig) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of every setting in force, as text; credentials in URLs are left out."""
    for name, value in _walk(config):
        yield name, redact_credentials(str(value))


def redact_credentials(text: str) -> str:
    """Return `text` with user and password of URLs replaced. Elsewhere secrets stand in files only."""
    return _CREDENTIALS.sub("***@", text)


def catalogue_digest(directory: Path) -> str:
    """Return the digest over names and contents of the dataset descriptions in `directory`."""
    files = {path.name: hashlib.sha256(_read(path)).hexdigest() for path in sorted(directory.glob("*.yaml"))}
    return _digest(files)


def keyring_digest(keyring: Keyring) -> str:
    """Return a digest that changes with every epoch, and tells nothing of a key (each is random)."""
    epochs = [
        [epoch.id, rfc3339(epoch.not_before), rfc3339(epoch.not_after), _key_digest(epoch.key)]
        for epoch in keyring.epochs
    ]
    return _digest(epochs)


def common_ground(
    config: GatewayConfig, bundle: Bundle, keyring: Keyring, corrections: str | None = None
) -> dict[str, str]:
    """Return what must be the same on all nodes of a deployment, as fingerprints by name.

    `corrections` is the fingerprint of the key of corrections, if there is one. Where two people activate
    policies, every node follows the log, and what must be the same is not the bundle but who may sign.
    """
    epochs = "\n".join(f"{epoch.id} {keyring_fingerprint(epoch.key)}" for epoch in keyring.epochs)
    common = {"keyring": f"sha256:{hashlib.sha256(epochs.encode()).hexdigest()}"}
    if corrections is not None:
        common["corrections"] = f"sha256:{corrections}"
    activation = config.policy.activation
    if activation is None:
        return {"policy": bundle.digest, **common}
    signers = activation.model_dump_json(exclude={"database"})
    return {"policy signers": f"sha256:{hashlib.sha256(signers.encode()).hexdigest()}", **common}


def _key_digest(key: bytes) -> str:
    return hashlib.sha256(b"sluicegate-recorded-keyring\x00" + key).hexdigest()


def _digest(content: Any) -> str:
    return "sha256:" + hashlib.sha256(encode_canonical(content)).hexdigest()


def _walk(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from error
