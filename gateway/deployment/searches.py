"""Finding the entries that were about a known identifier; the search stands in the log first."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.audit.filter import Field, Has, both
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import MAX_PAGE_SIZE, StoredEntry
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.changes import record_change
from gateway.deployment.kept import details_config_of, open_store, tokens_of
from gateway.deployment.reasons import check_reason
from gateway.details import BlindIndex, Details, SubjectDetails, Term
from gateway.details.deployed import load_custodians
from gateway.details.errors import DetailsAlteredError
from gateway.details.keeper import SealedDetails, write_batch
from gateway.details.sealing import Batch, Context, seal_content
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit
from gateway.exchange.state import new_exchange_id
from gateway.identifiers import identifier_kind
from gateway.model import EntryKind


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found."""

    entries: tuple[StoredEntry, ...]
    """Newest first."""
    recorded: int
    """Index of the entry `details.searched`."""


def find_subject(
    config: GatewayConfig, kind: str, value: str, *, reason: str, by: str, clock: Clock = system_clock
) -> Found:
    """Return the entries that were about the identifier `value`, once the log says that it was searched.

    What was searched for is itself kept as details of the entry that says so.
    """
    check_reason(reason)
    check_reason(by, what="--by")
    details_config = details_config_of(config)
    identifier = identifier_kind(kind)
    normal = identifier.normalise(value)
    index = BlindIndex.load(details_config.index_key)
    custodians = load_custodians(details_config)
    now = clock()
    with open_store(config) as store, SqliteReader(config.log.database) as reader:
        exchange = new_exchange_id(now)
        subject = SubjectDetails(field=kind, subjects=(normal,), filters={})
        token = index.search_token(kind, normal)
        commitments, openings = {}, {}
        for name, what in (("subject", encode_canonical(subject)), ("token", token)):
            commitments[name], openings[name] = commit(what)
        details = Details(v=1, openings=openings, subject=subject, token=token)
        context = Context(config.log.origin, exchange, EntryKind.DETAILS_SEARCHED.value)
        sealed = SealedDetails(
            context, rfc3339(now)[:10], seal_content(details.encode(), context), (Term(kind, normal),)
        )
        recorded = record_change(
            config,
            EntryKind.DETAILS_SEARCHED,
            "details",
            {"reason": reason, "by": by, "kind": kind},
            exchange=exchange,
            commitments={**commitments, "details": sealed.commitment},
            clock=clock,
        )
        found = store.exchanges_with(tokens_of(store, index, kind, normal))
        write_batch(store, Batch(config.log.origin, custodians), index, [sealed])
        entries = [entry for exchange_id, of in found for entry in _entries(reader, exchange_id, of)]
    return Found(tuple(sorted(entries, key=lambda entry: -entry.index)), recorded)


def _entries(reader: SqliteReader, exchange: str, kind: str) -> list[StoredEntry]:
    """Return the entries of an exchange that are of `kind`."""
    if kind not in set(EntryKind):
        raise DetailsAlteredError("The store of details names a kind of entry that there is none of.")
    return reader.find(both(Has(Field.EXCHANGE, exchange), Has(Field.KIND, kind)), MAX_PAGE_SIZE)
