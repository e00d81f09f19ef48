"""Putting records into the vault: a batch is staged piece by piece, and becomes a version at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from gateway.clock import Clock, parse_rfc3339, rfc3339
from gateway.model.contract import Contract
from gateway.vault.errors import BatchError
from gateway.vault.keys import DataKeys, HoldingKeys
from gateway.vault.layout import RecordError, Scalar, layout_of, retention_of, text_of, vault_terms
from gateway.vault.sealing import Place, bind_batch, key_tokens, lookup_tokens, seal
from gateway.vault.store import SealedPage, VaultStore
from gateway.vault.tables import Batch, Holding, Layout

PAGE_RECORDS: Final = 256
PAGE_BYTES: Final = 64 * 1024
"""What a page aims at; a larger record makes a page by itself."""

DIGEST_BYTES: Final = 32
MAX_KEYS: Final = 100_000
"""Records withdrawn by one call at most."""


Undecided = Callable[[str], AbstractContextManager[bool]]
"""Keeps the end of a batch from being decided; gives whether it is undecided."""


def nothing_decided(_: str) -> AbstractContextManager[bool]:
    """Be `Undecided` of a vault whose batches end in one call."""
    return nullcontext(True)


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """A batch as it stands. `VaultWriter.stage` takes the newest and returns the next."""

    contract: str
    """The contract's name."""
    dataset: str
    records: int
    """How many records are staged, durably."""
    resume: bytes
    """What was given with the last of them, such as a position in the upload."""
    version: int | None
    """The version that it has become; None while it is staged."""
    row: Batch

    @property
    def name(self) -> str:
        """The contributor's id of the batch."""
        return self.row.name

    @property
    def place(self) -> Place:
        """What its pages are bound to."""
        return Place(self.contract, self.dataset, self.row.name)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a withdrawal did."""

    version: int
    """The version without the records; the one before if there were none of them."""
    records: int
    unknown: int
    """Keys of which there was no record."""


class VaultWriter:
    """Writes contributions. Safe from any thread; every method blocks, and raises `VaultUnavailableError`."""

    def __init__(self, store: VaultStore, keys: DataKeys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock

    def begin(self, contract: Contract, dataset: str, batch: str) -> StagedBatch:
        """Begin the batch, or find it as an earlier call left it, committed or not.

        Whether the contract is in force is the caller's affair. Raises `GatewayError` with
        `DATASET_UNKNOWN` if the contract puts no such dataset into the vault, and
        `RecordsDestroyedError` if its keys were destroyed.
        """
        terms = vault_terms(contract, dataset)
        time = rfc3339(self._clock())
        holding = self._store.add_holding(
            contract.terms.contract, dataset, retention_of(terms), self._keys.make(1), time
        )
        newest = self._keys.unwrap(self._store.keys(holding.number)).newest
        row = self._store.open_batch(holding, batch, contract.id, newest, layout_of(terms), time)
        return _staged(holding.contract, dataset, row)

    def stage(
        self,
        batch: StagedBatch,
        records: Sequence[bytes],
        digests: Sequence[bytes] = (),
        resume: bytes = b"",
    ) -> StagedBatch:
        """Add records (canonical JSON, no line ends); when this returns they are durable, and invisible.

        `digests` (32 bytes for each record, or none at all) and `resume` are kept with them. Best called
        with some thousands of records: each call costs a flush of the disk, and each look-up a probe for
        each call there was. Raises `RecordError`, and `BatchError` if the batch has moved on meanwhile.
        """
        if not records:
            return batch
        if digests and {len(digest) for digest in digests} != {DIGEST_BYTES}:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes")
        if digests and len(digests) != len(records):
            raise ValueError("there is a digest for each record, or none")
        keys = self._keys.unwrap(self._store.keys(batch.row.holding))
        key = keys.key(batch.row.key)
        sealed = seal(key, b"".join(digests), batch.place, "digests", batch.row.pages)
        pages = _seal_pages(batch, records, keys)
        row = self._store.stage(batch.row, pages, sealed, resume, rfc3339(self._clock()))
        return _staged(batch.contract, batch.dataset, row)

    def staged(self, contract: Contract, dataset: str, batch: str) -> StagedBatch | None:
        """Return the batch as it stands, without beginning it; None if there is none."""
        holding = self._store.holding(contract.terms.contract, dataset)
        row = None if holding is None else self._store.batch(holding.number, batch)
        return None if row is None else _staged(contract.terms.contract, dataset, row)

    def commit(self, batch: StagedBatch, evidence: bytes = b"") -> int:
        """Make the batch the newest version of its dataset, all of it at once; return the version.

        A record with the key of an earlier one takes its place. `evidence`, such as the contributor's
        signature, is kept in clear for as long as the vault. Raises `BatchError` if the batch moved on.
        """
        index = self._keys.unwrap(self._store.keys(batch.row.holding)).index

        def bind(version: int) -> bytes:
            return bind_batch(index, batch.place, batch_facts(batch.row, version))

        return self._store.commit(batch.row, evidence, bind, rfc3339(self._clock()))

    def discard(self, batch: StagedBatch) -> bool:
        """Let a staged batch go; return whether it was there."""
        return self._store.discard(batch.row)

    def withdraw(self, contract: Contract, dataset: str, keys: Sequence[Sequence[Scalar]]) -> Withdrawn:
        """Make a version without the records of these keys (values in the order of the terms' `key`).

        Older versions still have them. Raises `BatchError` if the dataset names no key or holds nothing,
        and `RecordError` for keys of another length.
        """
        terms = vault_terms(contract, dataset)
        holding = self._store.holding(contract.terms.contract, dataset)
        if not terms.key or holding is None:
            raise BatchError(
                "Records of this dataset cannot be withdrawn one by one: its terms name no key, or nothing "
                "was contributed."
            )
        if len(keys) > MAX_KEYS:
            raise RecordError(f"At most {MAX_KEYS} records can be withdrawn at once; do it in parts.")
        if any(len(values) != len(terms.key) for values in keys):
            raise RecordError(f"A key of this dataset has {len(terms.key)} value(s).")
        index = self._keys.unwrap(self._store.keys(holding.number)).index
        texts = {tuple(text_of(value) for value in values) for values in keys}
        tokens = sorted(key_tokens(index, terms.key, texts))

        def bind(version: int) -> bytes:
            place = Place(holding.contract, dataset, f"withdrawal/{version}")
            return bind_batch(index, place, ("withdrawal", version, contract.id))

        version, gone = self._store.withdraw(
            holding.number, tokens, "withdrawal", contract.id, bind, rfc3339(self._clock())
        )
        return Withdrawn(version, gone, len(texts) - gone)

    def leftovers(self, idle_for: timedelta) -> list[StagedBatch]:
        """Return staged batches to which nothing was added for so long."""
        before = self._clock() - idle_for
        return [
            _staged(holding.contract, holding.dataset, row)
            for holding, row, touched in self._store.staged()
            if parse_rfc3339(touched) < before
        ]

    def remove_leftovers(self, idle_for: timedelta, undecided: Undecided = nothing_decided) -> int:
        """Discard staged batches to which nothing was added for so long; return how many.

        One whose end is decided stays: whoever completes it needs its records.
        """
        removed = 0
        for batch in self.leftovers(idle_for):
            with undecided(batch.name) as may_go:
                removed += may_go and self._store.discard(batch.row)
        self._store.sweep()
        return removed


def batch_facts(row: Batch, version: int) -> tuple[Any, ...]:
    """Return what is bound of a batch that became `version`."""
    return (
        "batch",
        version,
        row.identity,
        row.key,
        row.records,
        row.pages,
        row.layout.lookup,
        row.layout.key,
    )


def purged_tokens(row: Batch, record: bytes, keys: HoldingKeys) -> tuple[tuple[int, ...], bytes | None]:
    """Return the look-up tokens of a record that goes, and its key token if it has a key."""
    tokens, keyed = record_tokens(row.layout, [record], keys.index)
    found = tuple(token for of_field in tokens for token in of_field if token is not None)
    return found, keyed[0] if keyed else None


def resealed(holding: Holding, row: Batch, at: int, lines: Sequence[bytes], keys: HoldingKeys) -> bytes:
    """Return page `at` of a batch, sealed anew with these lines."""
    place = Place(holding.contract, holding.dataset, row.name)
    return seal(keys.key(row.key), b"\n".join(lines), place, "page", at)


def _staged(contract: str, dataset: str, row: Batch) -> StagedBatch:
    return StagedBatch(contract, dataset, row.records, row.resume, row.version, row)


def _seal_pages(batch: StagedBatch, records: Sequence[bytes], keys: HoldingKeys) -> list[SealedPage]:
    key, place = keys.key(batch.row.key), batch.place
    tokens, keyed = record_tokens(batch.row.layout, records, keys.index)
    pages: list[SealedPage] = []
    for first, last in _cut(records):
        found = [
            (token, position)
            for of_field in tokens
            for position, token in enumerate(of_field[first:last])
            if token is not None
        ]
        pages.append(
            SealedPage(
                last - first,
                seal(key, b"\n".join(records[first:last]), place, "page", batch.row.pages + len(pages)),
                tuple(found),
                tuple((token, position) for position, token in enumerate(keyed[first:last])),
            )
        )
    return pages


def record_tokens(
    layout: Layout, records: Sequence[bytes], index: bytes
) -> tuple[list[list[int | None]], list[bytes]]:
    """Return for each look-up field the token of each record (None: no value), and each record's key token.

    Raises `RecordError` unless each of `records` is a JSON object on one line that has its key.
    """
    names, decoder = _decoder(layout)
    joined = b"\n".join(records)
    try:
        decoded = decoder.decode_lines(joined)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RecordError("A record is no JSON object with plain values where it is looked up.") from None
    if len(decoded) != len(records) or joined.count(b"\n") != len(records) - 1:
        raise RecordError("A record does not stand on one line.")
    columns = dict(zip(names, zip(*map(msgspec.structs.astuple, decoded), strict=True), strict=True))
    tokens: list[list[int | None]] = []
    for name in layout.lookup:
        values = columns[name]
        found: list[int | None] = list(lookup_tokens(index, name, _texts(values)))
        tokens.append(
            found
            if None not in values
            else [None if value is None else token for value, token in zip(values, found, strict=True)]
        )
    keyed: list[bytes] = []
    if layout.key:
        if any(None in columns[name] for name in layout.key):
            raise RecordError("A record lacks a value of its key.")
        texts_of_key = zip(*(_texts(columns[name]) for name in layout.key), strict=True)
        keyed = key_tokens(index, layout.key, texts_of_key)
    return tokens, keyed


def _texts(values: Sequence[Scalar]) -> Sequence[str]:
    if set(map(type, values)) == {str}:
        return cast("Sequence[str]", values)
    return [text_of(value) for value in values]


@lru_cache(maxsize=64)
def _decoder(layout: Layout) -> tuple[tuple[str, ...], msgspec.json.Decoder[Any]]:
    """Return the fields that matter, and what reads them and passes over all others."""
    names = tuple(sorted({*layout.lookup, *layout.key}))
    record = msgspec.defstruct(
        "Keyed",
        [(f"f{at}", Scalar, None) for at in range(len(names))],
        rename={f"f{at}": name for at, name in enumerate(names)},
        gc=False,
    )
    return names, msgspec.json.Decoder(record)


def _cut(records: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of each page."""
    first, size = 0, 0
    for at, record in enumerate(records):
        if at > first and (at - first >= PAGE_RECORDS or size + len(record) > PAGE_BYTES):
            yield first, at
            first, size = at, 0
        size += len(record) + 1
    yield first, len(records)
