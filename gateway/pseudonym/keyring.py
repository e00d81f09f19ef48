"""The keyring: the secret of each key epoch, in one file that only the gateway can read."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import string
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec

from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.keys import read_secret, write_secret
from gateway.pseudonym.errors import KeyEpochError, KeyringError

SCHEME: Final = "sg1"
"""The scheme all keys of a keyring are for; the first word of its pseudonyms."""

KEY_BYTES: Final = 32

DEFAULT_LIFETIME: Final = timedelta(days=365)

EPOCH_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,19}"
"""An epoch's id: lower-case letters, digits and hyphens, at most 20 characters."""

_EPOCH_ID: Final = re.compile(EPOCH_PATTERN)


@dataclass(frozen=True, slots=True)
class KeyEpoch:
    """One secret and the time in which pseudonyms are made with it."""

    id: str
    not_before: datetime
    not_after: datetime
    """The first instant at which it is used no more."""
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if _EPOCH_ID.fullmatch(self.id) is None:
            raise KeyringError(
                "The id of a key epoch is made of lower-case letters, digits and hyphens, at most 20."
            )
        if len(self.key) != KEY_BYTES:
            raise KeyringError(f"The key of epoch {self.id} must have {KEY_BYTES} bytes.")
        if self.not_before >= self.not_after:
            raise KeyringError(f"Epoch {self.id} ends before it begins; correct not_before and not_after.")

    def covers(self, moment: datetime) -> bool:
        """Whether the epoch is active at `moment`."""
        return self.not_before <= moment < self.not_after


@dataclass(frozen=True, slots=True)
class Keyring:
    """The key epochs, oldest first. A value: rotation gives a new keyring."""

    epochs: tuple[KeyEpoch, ...]

    def __post_init__(self) -> None:
        if not self.epochs:
            raise KeyringError("A keyring holds at least one key epoch.")
        if len({epoch.id for epoch in self.epochs}) != len(self.epochs):
            raise KeyringError("Two epochs of the keyring have the same id; each id is used once, for ever.")
        if len({epoch.key for epoch in self.epochs}) != len(self.epochs):
            raise KeyringError("Two epochs of the keyring have the same key; every epoch needs its own.")
        ordered = sorted(self.epochs, key=lambda epoch: epoch.not_before)
        object.__setattr__(self, "epochs", tuple(ordered))

    def epochs_at(self, moment: datetime) -> tuple[KeyEpoch, ...]:
        """Return the epochs active at `moment`, oldest first: two while they overlap, perhaps none."""
        return tuple(epoch for epoch in self.epochs if epoch.covers(moment))

    def current(self, moment: datetime) -> KeyEpoch:
        """Return the newest epoch active at `moment`; raise `KeyEpochError` if there is none."""
        active = self.epochs_at(moment)
        if not active:
            raise KeyEpochError(
                "The keyring has no key epoch for this time; the key custodian must rotate it."
            )
        return active[-1]

    def active(self, epoch_id: str, moment: datetime) -> KeyEpoch:
        """Return the epoch called `epoch_id`; raise `KeyEpochError` unless it is active at `moment`."""
        for epoch in self.epochs_at(moment):
            if epoch.id == epoch_id:
                return epoch
        raise KeyEpochError("This key epoch is over; ask again from the first page.")

    def epoch(self, epoch_id: str) -> KeyEpoch:
        """Return the epoch called `epoch_id`, active or not; raise `KeyEpochError` if there is none."""
        for epoch in self.epochs:
            if epoch.id == epoch_id:
                return epoch
        raise KeyEpochError("The keyring does not hold this key epoch.")

    def rotate(self, now: datetime, overlap: timedelta, *, lifetime: timedelta = DEFAULT_LIFETIME) -> Keyring:
        """Return the keyring with a fresh epoch from `now` on, for `lifetime`.

        Epochs active now end when `overlap` has passed, if they would not have ended before. While
        both are active, new exchanges use the new one; answers begun under the old one end under it.
        Raises `KeyringError` if `overlap` is negative, `lifetime` not positive, or an epoch that
        began at this very instant would have to end in it.
        """
        if overlap < timedelta(0):
            raise KeyringError("The overlap of two key epochs cannot be negative.")
        kept = tuple(
            replace(epoch, not_after=min(epoch.not_after, now + overlap)) if epoch.covers(now) else epoch
            for epoch in self.epochs
        )
        return Keyring((*kept, _fresh_epoch(now, lifetime, {epoch.id for epoch in self.epochs})))

    @classmethod
    def generate(cls, now: datetime, *, lifetime: timedelta = DEFAULT_LIFETIME) -> Keyring:
        """Return a keyring with one fresh epoch from `now` on."""
        return cls((_fresh_epoch(now, lifetime, set()),))

    @classmethod
    def load(cls, path: Path) -> Keyring:
        """Read a keyring file; raise `ConfigError` if it is open to others or not a keyring.

        The file must be a regular file of mode 0600 and our own (`read_secret`).
        """
        try:
            content = msgspec.json.decode(read_secret(path), type=_File)
        except DECODE_ERRORS as error:
            raise KeyringError(
                f"{path} is not a keyring; restore it from the custodian's copy (docs/formats/pseudonym.md)."
            ) from error
        if content.scheme != SCHEME:
            raise KeyringError(f"{path} is a keyring for another scheme than {SCHEME}.")
        return cls(
            tuple(
                KeyEpoch(e.id, e.not_before.astimezone(UTC), e.not_after.astimezone(UTC), e.key)
                for e in content.epochs
            )
        )

    def save(self, path: Path, *, replace_existing: bool = False) -> None:
        """Write the keyring to `path` with mode 0600; durable and whole when it returns.

        An existing file is left alone (`ConfigError`) unless `replace_existing` says otherwise; then
        it is replaced in one step, so that a reader or a crash sees the old one or the new one.
        """
        content = self._to_json()
        if not replace_existing:
            write_secret(path, content)
            _make_names_durable(path.parent)
            return
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        write_secret(fresh, content)
        try:
            fresh.replace(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise KeyringError(f"The keyring {path} cannot be replaced ({error.strerror}).") from error
        _make_names_durable(path.parent)

    def _to_json(self) -> bytes:
        epochs = tuple(_FileEpoch(e.id, e.key, e.not_before, e.not_after) for e in self.epochs)
        return msgspec.json.format(msgspec.json.encode(_File(SCHEME, epochs)), indent=2) + b"\n"


class _FileEpoch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    key: bytes
    not_before: Annotated[datetime, msgspec.Meta(tz=True)]
    not_after: Annotated[datetime, msgspec.Meta(tz=True)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scheme: str
    epochs: tuple[_FileEpoch, ...]


def _fresh_epoch(now: datetime, lifetime: timedelta, used: set[str]) -> KeyEpoch:
    return KeyEpoch(_free_id(now.year, used), now, now + lifetime, secrets.token_bytes(KEY_BYTES))


def _free_id(year: int, used: set[str]) -> str:
    """Return the year with the first free letters: `2026a`, `2026b`, … `2026z`, `2026aa` and on."""
    names = (
        f"{year}{''.join(letters)}"
        for count in itertools.count(1)
        for letters in itertools.product(string.ascii_lowercase, repeat=count)
    )
    return next(name for name in names if name not in used)


def _make_names_durable(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
