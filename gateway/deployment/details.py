"""What officers do with the details of entries: search, open, erase. Each stands in the log first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import OnceTakenError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.search import EntryFilter
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import MAX_PAGE_SIZE, Once, StoredEntry
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import DetailsConfig, GatewayConfig
from gateway.deployment.changes import record_change
from gateway.deployment.reasons import check_reason
from gateway.details import (
    ApprovalError,
    BlindIndex,
    Details,
    DetailsErasedError,
    DetailsMissingError,
    DetailsStore,
    SubjectDetails,
    Term,
)
from gateway.details.deployed import known_cards, load_custodians
from gateway.details.errors import DetailsAlteredError
from gateway.details.hpke import generate_private_key
from gateway.details.keeper import SealedDetails, write_batch
from gateway.details.opening import (
    APPROVAL_LIFETIME,
    CLOCK_TOLERANCE,
    OpeningRequest,
    open_stored,
    parse_entry,
    verify_approvals,
    verify_content,
)
from gateway.details.sealing import Batch, BatchKeys, Context, content_digest, seal_content
from gateway.details.store import Selection, StoredDetails
from gateway.errors import ConfigError
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.exchange.state import new_exchange_id
from gateway.exchange.statement import QUERY_TYPE
from gateway.identifiers import identifier_kind
from gateway.members import MemberStore
from gateway.model import Entry, EntryKind


@dataclass(frozen=True, slots=True)
class Opened:
    """Details that were opened, and the entry that says so."""

    details: Details
    entry: Entry
    recorded: int
    """Index of the entry `details.opened`."""
    approved_by: tuple[str, ...]
    signature: str
    """Of the query: `valid`, `none`, or `key no longer registered`."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found."""

    entries: tuple[StoredEntry, ...]
    """Newest first."""
    recorded: int
    """Index of the entry `details.searched`."""


def request_opening(
    config: GatewayConfig, index: int, *, reason: str, by: str, clock: Clock = system_clock
) -> tuple[OpeningRequest, X25519PrivateKey]:
    """Return a request to open the details of entry `index`, and the private key it will be answered to.

    Raises `DetailsMissingError`, `DetailsErasedError`, `DetailsAlteredError`.
    """
    check_reason(reason)
    check_reason(by, what="--by")
    with SqliteReader(config.log.database) as reader, _store(config) as store:
        leaf = reader.entry(index).data
        entry = _entry_with_details(leaf)
        stored, keys = _find(store, reader, entry)
        proof = _prove(config, reader, index)
    secret = generate_private_key()
    request = OpeningRequest(
        v=1,
        origin=config.log.origin,
        index=index,
        entry=leaf,
        proof=proof,
        kind=stored.kind,
        reason=reason,
        by=by,
        time=rfc3339(clock()),
        reply_to=secret.public_key().public_bytes_raw(),
        keys=keys,
    )
    return request, secret


def open_details(
    config: GatewayConfig,
    request: OpeningRequest,
    secret: X25519PrivateKey,
    approvals: Sequence[dsse.Envelope],
    *,
    clock: Clock = system_clock,
) -> Opened:
    """Open what `request` asks for, once the log says who approved it and why.

    A request opens once. Raises `ApprovalError`, and what `request_opening` raises.
    """
    details_config, now = _configured(config), clock()
    cards = known_cards(details_config)
    approved = verify_approvals(request, approvals, cards, now)
    names = tuple(sorted(cards[approval.custodian].name for approval in approved))
    with SqliteReader(config.log.database) as reader, _store(config) as store:
        if request.origin != config.log.origin or reader.entry(request.index).data != request.entry:
            raise ApprovalError("The request is about an entry of another log.")
        entry = parse_entry(request.entry)
        stored, keys = _find(store, reader, entry)
        if (stored.kind, keys) != (request.kind, request.keys):
            raise ApprovalError("The request names other keys than these details have; make a new request.")
    try:
        recorded = record_change(
            config,
            EntryKind.DETAILS_OPENED,
            f"entries/{request.index}",
            {
                "reason": request.reason,
                "by": request.by,
                "approved_by": ",".join(names),
                "custodians": ",".join(sorted(approval.custodian for approval in approved)),
                "request": request.digest,
            },
            once=Once(bytes.fromhex(request.digest), now + APPROVAL_LIFETIME + CLOCK_TOLERANCE),
            clock=clock,
        )
    except OnceTakenError as error:
        raise ApprovalError("This request was carried out before; each opening takes a new one.") from error
    details = open_stored(request, secret, approved, stored)
    return Opened(details, entry, recorded, names, _signature(config, entry, details))


def find_subject(
    config: GatewayConfig, kind: str, value: str, *, reason: str, by: str, clock: Clock = system_clock
) -> Found:
    """Return the entries that were about the identifier `value`, once the log says that it was searched.

    What was searched for is itself kept as details of the entry that says so.
    """
    check_reason(reason)
    check_reason(by, what="--by")
    details_config = _configured(config)
    identifier = identifier_kind(kind)
    normal = identifier.normalise(value)
    index = BlindIndex.load(details_config.index_key)
    custodians = load_custodians(details_config)
    now = clock()
    with _store(config) as store, SqliteReader(config.log.database) as reader:
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
            commitments={**commitments, "details": content_digest(sealed.sealed.content)},
            clock=clock,
        )
        found = store.exchanges_with(_tokens(store, index, kind, normal))
        write_batch(store, Batch(config.log.origin, custodians), index, [sealed])
        entries = [entry for exchange_id, of in found for entry in _entries(reader, exchange_id, of)]
    return Found(tuple(sorted(entries, key=lambda entry: -entry.index)), recorded)


def erase_details(
    config: GatewayConfig,
    *,
    legal_basis: str,
    by: str,
    index: int | None = None,
    before: date | None = None,
    subject: tuple[str, str] | None = None,
    clock: Clock = system_clock,
) -> tuple[int, int | None]:
    """Erase the details of one entry, of all before a day, or of all that concern (kind, identifier).

    Returns how many, and the index of the entry that says so (None when there was nothing to erase).
    Entries, proofs and receipts stay as they are. Raises `DetailsMissingError` for an entry without.
    """
    check_reason(legal_basis, what="--legal-basis")
    check_reason(by, what="--by")
    details_config = _configured(config)
    recorded: list[int] = []

    def record(count: int, commitment: str) -> tuple[int, str]:
        at = clock()
        recorded.append(
            record_change(
                config,
                EntryKind.DETAILS_ERASED,
                "details" if index is None else f"entries/{index}",
                {
                    "legal_basis": legal_basis,
                    "by": by,
                    "count": str(count),
                    "before": "" if before is None else before.isoformat(),
                    "selected": "subject" if subject else "",
                },
                commitments={"erased": commitment},
                clock=lambda: at,
            )
        )
        return recorded[0], rfc3339(at)

    with _store(config) as store:
        if subject is not None:
            kind, value = subject
            normal = identifier_kind(kind).normalise(value)
            tokens = _tokens(store, BlindIndex.load(details_config.index_key), kind, normal)
            selection = Selection(tokens=tuple(tokens))
        elif before is not None:
            selection = Selection(before=before)
        else:
            assert index is not None
            selection = Selection(exchange=_exchange_to_erase(config, store, index))
        count = store.erase(selection, record)
    return count, recorded[0] if recorded else None


def _signature(config: GatewayConfig, entry: Entry, details: Details) -> str:
    """Return what the consumer's signature on the query is worth; raise if it is not the consumer's."""
    if details.envelope is None or not details.envelope.signatures:
        return "none"
    keys = {
        key_id: VerifyKey(public)
        for member in MemberStore(config.members.database).members()[1]
        if member.id == entry.consumer
        for key_id, public in member.signing_keys.items()
    }
    if entry.envelope_key not in keys:
        return "key no longer registered"
    dsse.verify(details.envelope, QUERY_TYPE, keys)
    return "valid"


def _exchange_to_erase(config: GatewayConfig, store: DetailsStore, index: int) -> str:
    with SqliteReader(config.log.database) as reader:
        entry = _entry_with_details(reader.entry(index).data)
        if not store.of_exchange(entry.exchange):
            raise _nothing_kept(store, reader, entry)
    return entry.exchange


def _configured(config: GatewayConfig) -> DetailsConfig:
    if config.details is None:
        raise ConfigError("This deployment keeps no details: the configuration has no section [details].")
    return config.details


def _store(config: GatewayConfig) -> DetailsStore:
    details = _configured(config)
    if not details.file.exists():
        raise ConfigError(
            f"The store of details {details.file} does not exist; the gateway makes it when it starts."
        )
    return DetailsStore(details.file, config.log.origin)


def _entry_with_details(leaf: bytes) -> Entry:
    try:
        return parse_entry(leaf)
    except ApprovalError as error:
        raise DetailsMissingError(error.message) from error


def _find(store: DetailsStore, reader: SqliteReader, entry: Entry) -> tuple[StoredDetails, BatchKeys]:
    """Return the details of `entry` as stored; raise if there are none, or if they are not its own."""
    kept = store.of_exchange(entry.exchange)
    if not kept:
        raise _nothing_kept(store, reader, entry)
    for stored, keys in kept:
        try:
            verify_content(entry, stored)
        except DetailsAlteredError:
            continue
        return stored, keys
    raise DetailsAlteredError(
        "The details that are kept are not those that the entry commits to: they were altered or exchanged."
    )


def _nothing_kept(
    store: DetailsStore, reader: SqliteReader, entry: Entry
) -> DetailsErasedError | DetailsMissingError | DetailsAlteredError:
    """Return what to tell of details that are not there, as far as the log bears it out."""
    for erased in store.erased_of(entry.exchange):
        told = msgspec.json.decode(reader.entry(erased.entry).data, type=Entry)
        count, commitment = store.erasure(erased.entry) or (0, "")
        if (told.kind, told.detail.get("count"), told.commitments.get("erased")) != (
            EntryKind.DETAILS_ERASED,
            str(count),
            commitment,
        ):
            return DetailsAlteredError(
                "The store says that these details were erased, but the log does not bear that out."
            )
        return DetailsErasedError(
            f"The details of this entry were erased on {told.time[:10]}, as entry {erased.entry} says.",
            entry=erased.entry,
            time=told.time,
        )
    return DetailsMissingError(
        "The details of this entry are not there, and no entry says that they were erased: they were lost, "
        "or removed behind the log's back."
    )


def _prove(config: GatewayConfig, reader: SqliteReader, index: int) -> str:
    verifier = Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)
    note = reader.checkpoint()
    size = open_checkpoint(note, [verifier], origin=verifier.name).size
    return TlogProof(index, reader.inclusion_proof(index, size), note).to_text()


def _tokens(store: DetailsStore, index: BlindIndex, kind: str, value: str) -> list[bytes]:
    days = store.days()
    return [] if days is None else list(index.tokens(kind, *days, value))


def _entries(reader: SqliteReader, exchange: str, kind: str) -> list[StoredEntry]:
    """Return the entries of an exchange that are of `kind`."""
    if kind not in set(EntryKind):
        raise DetailsAlteredError("The store of details names a kind of entry that there is none of.")
    return reader.find(EntryFilter(exchange=exchange, kind=EntryKind(kind)), MAX_PAGE_SIZE)
