"""Opening the details of an entry: a request, approvals, and what the log says first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import OnceTakenError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import Once
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.changes import record_change
from gateway.deployment.kept import details_config_of, entry_with_details, open_store, why_nothing_is_kept
from gateway.deployment.reasons import check_reason
from gateway.details import ApprovalError, Details, DetailsStore
from gateway.details.deployed import known_cards
from gateway.details.errors import DetailsAlteredError
from gateway.details.hpke import generate_private_key
from gateway.details.opening import (
    APPROVAL_LIFETIME,
    CLOCK_TOLERANCE,
    OpeningRequest,
    open_stored,
    parse_entry,
    verify_approvals,
    verify_content,
)
from gateway.details.sealing import BatchKeys
from gateway.details.store import StoredDetails
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.exchange.statement import QUERY_TYPE
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


def request_opening(
    config: GatewayConfig, index: int, *, reason: str, by: str, clock: Clock = system_clock
) -> tuple[OpeningRequest, X25519PrivateKey]:
    """Return a request to open the details of entry `index`, and the private key it will be answered to.

    Raises `DetailsMissingError`, `DetailsErasedError`, `DetailsAlteredError`.
    """
    check_reason(reason)
    check_reason(by, what="--by")
    with SqliteReader(config.log.database) as reader, open_store(config) as store:
        leaf = reader.entry(index).data
        entry = entry_with_details(leaf)
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
    details_config, now = details_config_of(config), clock()
    cards = known_cards(details_config)
    approved = verify_approvals(request, approvals, cards, now)
    names = tuple(sorted(cards[approval.custodian].name for approval in approved))
    with SqliteReader(config.log.database) as reader, open_store(config) as store:
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


def _find(store: DetailsStore, reader: SqliteReader, entry: Entry) -> tuple[StoredDetails, BatchKeys]:
    """Return the details of `entry` as stored; raise if there are none, or if they are not its own."""
    kept = store.of_exchange(entry.exchange)
    if not kept:
        raise why_nothing_is_kept(store, reader, entry)
    for stored, keys in kept:
        try:
            verify_content(entry, stored)
        except DetailsAlteredError:
            continue
        return stored, keys
    raise DetailsAlteredError(
        "The details that are kept are not those that the entry commits to: they were altered or exchanged."
    )


def _prove(config: GatewayConfig, reader: SqliteReader, index: int) -> str:
    verifier = Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)
    note = reader.checkpoint()
    size = open_checkpoint(note, [verifier], origin=verifier.name).size
    return TlogProof(index, reader.inclusion_proof(index, size), note).to_text()


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
