"""Scheme `sg1`: pseudonyms by a keyed pseudo-random function, one key for each domain and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives import hashes, hmac

from gateway.identifiers import KINDS, CheckedColumn, IdentifierKind
from gateway.pseudonym.domain import Domain, derive_key
from gateway.pseudonym.encoding import TOKEN_LENGTH, open_prefix, tokens_text
from gateway.pseudonym.errors import PseudonymError
from gateway.pseudonym.keyring import SCHEME, KeyEpoch, Keyring

_INPUT_VERSION: Final = "1"
"""Version of the PRF's input; it changes when a kind's canonical form does."""

_CACHED_DOMAINS: Final = 1024
"""Members times purposes of a large deployment in one epoch; a miss costs some 20 µs."""


class DomainPseudonymiser:
    """Makes the pseudonyms of one domain in one epoch.

    token = HMAC-SHA256(domain key, kind | version | value without its check character), each part
    after its length, truncated to 160 bits (`tokens_text`). The check character is a function of
    the other characters and adds nothing. Immutable; threads may share it.
    """

    def __init__(self, domain: Domain, epoch: KeyEpoch) -> None:
        self.domain: Final = domain
        self.epoch: Final = epoch.id
        """The id of the key epoch, as it stands in the pseudonyms and in the log."""
        self._prefix: Final = f"{SCHEME}:{domain}:{epoch.id}:"
        keyed = hmac.HMAC(derive_key(epoch, domain), hashes.SHA256())
        self._started: Final = {
            kind: _started(keyed, kind) for kind in KINDS.values() if kind.pseudonymisable
        }

    def __repr__(self) -> str:
        return f"DomainPseudonymiser({self.domain}, {self.epoch})"

    def pseudonymise(self, kind: IdentifierKind, value: str) -> str:
        """Return the pseudonym of one identifier, normalised and checked first.

        Raises `IdentifierError` if `value` is not one of `kind`, `PseudonymError` if values of that
        kind are not pseudonymised.
        """
        started = self._state(kind)
        return self._texts(started, kind, [kind.normalise(value)])[0]

    def pseudonymise_column(self, column: CheckedColumn) -> list[str | None]:
        """Return the pseudonyms of a checked column, row by row; None where it has no valid value.

        Raises `PseudonymError` if values of its kind are not pseudonymised.
        """
        started = self._state(column.kind)
        present = [value for value in column.values if value is not None]
        texts = self._texts(started, column.kind, present)
        if len(present) == len(column.values):
            return list(texts)
        following = iter(texts)
        return [None if value is None else next(following) for value in column.values]

    def _state(self, kind: IdentifierKind) -> hmac.HMAC:
        try:
            return self._started[kind]
        except KeyError:
            raise PseudonymError(
                f"Identifiers of kind {kind.name} are too few to hide behind pseudonyms; "
                "policy must drop or generalise them.",
                kind=kind.name,
            ) from None

    def _texts(self, started: hmac.HMAC, kind: IdentifierKind, values: Sequence[str]) -> list[str]:
        copy = started.copy
        body_length = kind.body_length
        outputs = []
        for value in values:
            function = copy()
            function.update(value[:body_length].encode())
            outputs.append(function.finalize())
        tokens = tokens_text(outputs)
        prefix = self._prefix
        return [prefix + tokens[at : at + TOKEN_LENGTH] for at in range(0, len(tokens), TOKEN_LENGTH)]


def _started(keyed: hmac.HMAC, kind: IdentifierKind) -> hmac.HMAC:
    """Return the function after all of its input that is the same for every value of `kind`."""
    started = keyed.copy()
    started.update(open_prefix(kind.name, _INPUT_VERSION, last_length=kind.body_length))
    return started


class Pseudonymiser:
    """Makes pseudonyms for any recipient and purpose, from one keyring."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring: Final = keyring
        self._pseudonymiser: Final = lru_cache(maxsize=_CACHED_DOMAINS)(DomainPseudonymiser)

    def for_exchange(
        self, recipient: str, purpose: str, now: datetime, *, epoch: str | None = None
    ) -> DomainPseudonymiser:
        """Return what makes the pseudonyms of one exchange.

        `epoch` is the id that an earlier page of the same answer was made under: it goes on as long
        as that epoch is active, so that a rotation never splits an answer. Without it, the newest
        active epoch is taken. Raises `KeyEpochError` if there is none, `PseudonymError` if
        `recipient` or `purpose` is not a name.
        """
        key_epoch = self._keyring.current(now) if epoch is None else self._keyring.active(epoch, now)
        return self._pseudonymiser(Domain(recipient, purpose), key_epoch)

    def as_released(self, recipient: str, purpose: str, epoch: str) -> DomainPseudonymiser:
        """Return what made the pseudonyms of an earlier release, whether or not its epoch is over.

        For telling a recipient again what it got, never for a new exchange. Raises `KeyEpochError` if the
        keyring does not hold the epoch (any more).
        """
        return self._pseudonymiser(Domain(recipient, purpose), self._keyring.epoch(epoch))
