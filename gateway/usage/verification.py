"""Verifying a statement against the member's own entries: every number anew, every entry in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from gateway.audit.checkpoint import Checkpoint
from gateway.audit.errors import InclusionProofError
from gateway.audit.filter import And, Field, Filter, Has, since, until
from gateway.audit.proof import verify_inclusion
from gateway.audit.tree import leaf_hash
from gateway.clock import parse_rfc3339, rfc3339
from gateway.usage.book import Book, Counted
from gateway.usage.period import Period
from gateway.usage.ranges import read_ranges
from gateway.usage.seen import RELEASED, REQUESTED, Seen, see
from gateway.usage.statement import (
    ContractTerms,
    Figures,
    Statement,
    StatementError,
    figures,
    needed_since,
)

NEIGHBOURS: Final = timedelta(minutes=1)
"""Entries of so long before the first needed one are read as well: without them releases at the very
beginning, which may stand a little out of order, would seem to be missing."""

Progress = Callable[[int, int], None]
"""Takes entries proven and entries in all."""


class InclusionProofs(Protocol):
    """Where the proofs of a statement's entries come from."""

    def of(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the inclusion proof of entry `index` in the tree of `size`, from the leaf's sibling up."""
        ...


@dataclass(frozen=True, slots=True)
class VerifiedStatement:
    """What a statement that holds was verified with."""

    entries: int
    """How many entries its numbers are the sums of, each proven to be in the log."""
    read: int
    """How many of the member's entries were read to see that none is missing."""


def wanted_entries(statement: Statement) -> Filter:
    """Return the filter that finds the entries with which `statement` can be verified."""
    begins = parse_rfc3339(statement.since) - NEIGHBOURS
    return And((Has(Field.PROVIDER, statement.member), since(begins), until(statement.until)))


def count(statement: Statement, entries: Mapping[int, Seen]) -> Figures:
    """Return what a statement with the same month and contracts says of `entries`, by index."""
    first, last = statement.since, rfc3339(statement.until)
    counted = {
        index: entry
        for index, entry in entries.items()
        if first <= entry.time < last and index < statement.tree_size
    }
    book = Book(statement.member, counted.get)
    book.add(sorted(counted.items(), key=_index))
    requests = {entry.exchange: entry for entry in entries.values() if entry.kind == REQUESTED}
    period = statement.period
    lines: list[Counted] = list(book.lines(Period(parse_rfc3339(first).date(), period.last), requests.get))
    contracts = {contract.id: ContractTerms.stated(contract) for contract in statement.contracts}
    return figures(period, lines, contracts)


def verify_statement(
    statement: Statement,
    checkpoint: Checkpoint,
    entries: Mapping[int, bytes],
    proofs: InclusionProofs,
    progress: Progress = lambda _done, _total: None,
) -> VerifiedStatement:
    """Raise `StatementError` unless `statement` says what the log says, given the member's own entries.

    `entries` are the leaves found with `wanted_entries`, by index; `checkpoint` is the statement's, verified
    (`gateway.usage.statement.open_statement`).

    1. It says from when on entries are needed as it must.
    2. The releases among the entries are numbered without a gap: none was kept from the member.
    3. Every line, amount, use of a quota and total is what is counted from the entries.
    4. Every entry that a line names stands in the log at its index.
    """
    terms = [ContractTerms.stated(contract) for contract in statement.contracts]
    if statement.since != rfc3339(needed_since(statement.period, terms)):  # 1
        raise StatementError("The statement does not begin when it must.")
    seen = {index: see(data) for index, data in entries.items()}
    _require_gapless(statement, seen)  # 2
    _require_same(statement, count(statement, seen))  # 3
    named = [index for line in statement.lines for index in read_ranges(line.entries, statement.tree_size)]
    for done, index in enumerate(named):
        _require_in_log(index, entries[index], checkpoint, proofs)  # 4
        progress(done + 1, len(named))
    return VerifiedStatement(len(named), len(entries))


def _require_same(statement: Statement, counted: Figures) -> None:
    for what, stated, found in (
        ("totals", statement.totals, counted.totals),
        ("lines", statement.lines, counted.lines),
        ("amounts", statement.amounts, counted.amounts),
        ("quotas", statement.contracts, counted.contracts),
    ):
        if stated != found:
            raise StatementError(f"The {what} of the statement are not what the log's entries say.")


def _require_gapless(statement: Statement, entries: Mapping[int, Seen]) -> None:
    # Near both ends of the time that was read, a neighbour that is a little out of order may lie outside.
    first, last = statement.since, rfc3339(statement.until - NEIGHBOURS)
    before: dict[str, tuple[int, str]] = {}
    for index, entry in sorted(entries.items(), key=_index):
        if entry.kind != RELEASED or entry.sequence is None or index >= statement.tree_size:
            continue
        number, time = before.get(entry.consumer, (entry.sequence - 1, entry.time))
        if entry.sequence != number + 1 and time >= first and entry.time < last:
            raise StatementError("Releases are missing among the entries: their numbers have a gap.")
        before[entry.consumer] = entry.sequence, entry.time


def _require_in_log(index: int, data: bytes, checkpoint: Checkpoint, proofs: InclusionProofs) -> None:
    hashes = proofs.of(index, checkpoint.size)
    try:
        verify_inclusion(leaf_hash(data), index, checkpoint.size, hashes, checkpoint.root)
    except InclusionProofError as error:
        raise StatementError(
            "An entry that the statement counts is not in the log as it was given."
        ) from error


def _index(item: tuple[int, Seen]) -> int:
    return item[0]
