"""Where contracts are kept, as everybody sees it.

Every change raises one revision number, by which running gateways notice it. What is read is verified
again, so that terms or signatures that somebody edited never count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from gateway.contracts.errors import ContractsUnavailableError
from gateway.contracts.life_cycle import Standing
from gateway.contracts.signing import verified_version
from gateway.contracts.version import Change, History, PartySignature, Version
from gateway.errors import GatewayError
from gateway.evidence.canonical import DECODE_ERRORS, decode_bytes_strictly, encode_canonical

ContractRow = tuple[str, str, int, bytes, str, str]
"""Identity, contract, version, terms, signatures (JSON), standing (JSON)."""

Decide = Callable[[History], Sequence[Change]]
"""Takes all versions of a contract and returns what becomes of some, or raises."""

Record = Callable[[Change], object]
"""Hears of a change before it counts; the change is undone if it raises."""


def unrecorded(_: Change) -> None:
    """Tell nobody: for what the log has already, and for stores that no gateway serves from."""


class ContractSource(Protocol):
    """Where contracts are read from. What reads blocks and raises `ContractsUnavailableError`."""

    def revision(self) -> int:
        """Return the number that every change raises."""
        ...

    def versions(self) -> tuple[int, list[Version]]:
        """Return (revision, every version of every contract in order), of one moment.

        What nobody signed so is left out: it does not count, and the log tells that it is missing.
        """
        ...

    async def await_change(self, timeout_s: float) -> None:
        """Return when the contracts may have changed, at the latest after `timeout_s`; never raises."""
        ...


class ContractStore(ContractSource, Protocol):
    """Keeps contracts. Every method is one durable transaction, blocks, and may be called on any thread."""

    def change(self, contract: str, decide: Decide, record: Record) -> Sequence[Change]:
        """Make what `decide` returns of the versions of `contract`, and return it.

        Nobody else changes any contract meanwhile. `record` is called with each change before it counts;
        if that or `decide` raises, nothing is changed. Raises `ContractsUnavailableError`.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


class VersionReader:
    """Reads rows, and remembers what it has verified: signatures are not computed anew for the same row.

    Terms never change under an identity, so what is remembered is compared byte by byte and cannot be stale.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[ContractRow, Version]] = {}

    def readable(self, rows: Iterable[ContractRow]) -> list[Version]:
        """Return the versions that the rows tell of, without those that nobody signed so."""
        found = []
        for row in rows:
            with suppress(ContractsUnavailableError):
                found.append(self.read(row))
        return found

    def read(self, row: ContractRow) -> Version:
        """Return the version that a row tells of; raise `ContractsUnavailableError` if nobody signed it."""
        known = self._known.get(row[0])
        if known is not None and known[0] == row:
            return known[1]
        version = read_version(row)
        self._known[row[0]] = (row, version)
        return version


def read_version(row: ContractRow) -> Version:
    """Return the version that a row tells of, every signature verified; raise `ContractsUnavailableError`."""
    contract_id, contract, number, payload, signatures, standing = row
    try:
        version = verified_version(
            payload,
            decode_bytes_strictly(signatures.encode(), tuple[PartySignature, ...]),
            msgspec.json.decode(standing, type=Standing),
        )
    except (GatewayError, *DECODE_ERRORS) as error:
        raise _edited() from error
    if (version.id, version.terms.contract, version.terms.version) != (contract_id, contract, number):
        raise _edited()
    return version


def write_version(version: Version) -> ContractRow:
    """Return the row that is kept of a version."""
    return (
        version.id,
        version.terms.contract,
        version.terms.version,
        version.payload,
        encode_canonical(version.signatures).decode(),
        encode_canonical(version.standing).decode(),
    )


def _edited() -> ContractsUnavailableError:
    return ContractsUnavailableError(
        "The contract store holds what no party has signed: somebody has edited it. Restore it from its "
        "newest copy; `gateway doctor` tells more."
    )
