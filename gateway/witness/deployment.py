"""The folder of a witness: its configuration, keys and state; and the witness made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.cosignature import (
    CosignatureSigner,
    Ed25519CosignatureSigner,
    MlDsaCosignatureSigner,
    log_verifier_of,
)
from gateway.audit.errors import NoteError
from gateway.clock import Clock, system_clock
from gateway.config import ADDRESS_PATTERN, WITNESS_NAME_PATTERN, WitnessConfig
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey, write_secret
from gateway.evidence.ml_dsa import MlDsaSigningKey, is_ml_dsa_available
from gateway.witness.state import WitnessState
from gateway.witness.witness import Witness


@dataclass(frozen=True, slots=True)
class WitnessFolder:
    """Where the parts of a witness lie."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.root / "witness.toml"

    @property
    def ed25519_key(self) -> Path:
        """The Ed25519 key."""
        return self.root / "keys" / "witness-ed25519.key"

    @property
    def ml_dsa_key(self) -> Path:
        """The ML-DSA-44 key."""
        return self.root / "keys" / "witness-ml-dsa.key"

    @property
    def state(self) -> Path:
        """What the witness has cosigned."""
        return self.root / "data" / "witness.db"


def initialise(directory: Path, *, name: str, listen: str) -> WitnessConfig:
    """Make a witness in `directory`, which must be empty or not there; return its configuration.

    It gets an Ed25519 key and, where this installation has ML-DSA-44, a key for that too. Raises
    `ConfigError`.
    """
    if re.fullmatch(WITNESS_NAME_PATTERN, name) is None:
        raise ConfigError(
            "The witness's name is a URL without its scheme, in lower case, such as witness.example.org/w1."
        )
    if re.fullmatch(ADDRESS_PATTERN, listen) is None:
        raise ConfigError("The address is host:port, such as 127.0.0.1:7480.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"{directory} is not an empty folder; name another.")
    folder = WitnessFolder(directory)
    lines = [f'name = "{name}"', f'listen = "{listen}"', 'state = "data/witness.db"']
    lines.append('ed25519_key = "keys/witness-ed25519.key"')
    with_ml_dsa = is_ml_dsa_available()
    if with_ml_dsa:
        lines.append('ml_dsa_key = "keys/witness-ml-dsa.key"')
    text = "\n".join(lines) + "\n"
    for part in (folder.ed25519_key.parent, folder.state.parent):
        part.mkdir(parents=True, mode=0o700)
    write_secret(folder.ed25519_key, SigningKey.generate().to_pem())
    if with_ml_dsa:
        write_secret(folder.ml_dsa_key, MlDsaSigningKey.generate().to_pem())
    WitnessState.create(folder.state).close()
    folder.config.write_text(text)
    return WitnessConfig.load(folder.config)


def signers_of(config: WitnessConfig, clock: Clock = system_clock) -> tuple[CosignatureSigner, ...]:
    """Return the keys of a witness; raise `ConfigError` if there is none or one is unusable."""
    signers: list[CosignatureSigner] = []
    if config.ed25519_key is not None:
        signers.append(Ed25519CosignatureSigner(config.name, SigningKey.load(config.ed25519_key), clock))
    if config.ml_dsa_key is not None:
        signers.append(MlDsaCosignatureSigner(config.name, MlDsaSigningKey.load(config.ml_dsa_key), clock))
    if not signers:
        raise ConfigError("The witness has no key; name one in its configuration: ed25519_key or ml_dsa_key.")
    return tuple(signers)


@contextmanager
def open_witness(config: WitnessConfig, clock: Clock = system_clock) -> Iterator[Witness]:
    """Yield the witness of a configuration; raise `ConfigError` if a part of it is missing or unusable."""
    signers = signers_of(config, clock)
    with WitnessState(config.state) as state:
        yield Witness(state, signers, clock=clock)


def add_log(config: WitnessConfig, vkey: str, origin: str | None = None) -> str:
    """Let the witness cosign the log of `vkey` from now on, also while it runs; return the log's origin.

    The origin is the key's name unless given. Raises `ConfigError`.
    """
    try:
        verifier = log_verifier_of(vkey)
    except NoteError as error:
        raise ConfigError(f"This is not the verifier key of a log. {error.message}") from error
    origin = origin or verifier.name
    with WitnessState(config.state) as state:
        state.add_key(origin, vkey)
    return origin
