"""The monthly statement: what has left, to whom, for what, and what it comes to; signed by the gateway.

Pure; used by the gateway to make statements and by anybody to read them. See docs/formats/statement.md.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import NoteError
from gateway.audit.note import Ed25519Verifier, Verifier
from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SignatureError, SigningKey
from gateway.evidence.trust import Trust
from gateway.model.contract import Contract, Per, Price, Quota
from gateway.usage.book import Counted, Outcome
from gateway.usage.charges import Amount, QuotaUse, amounts, quota_uses
from gateway.usage.period import CLOSING_TIME, Period, month_of
from gateway.usage.ranges import write_ranges

STATEMENT_TYPE: Final = dsse.payload_type("statement")
MAX_STATEMENT_BYTES: Final = 64 * 1024 * 1024
"""A statement grows by about 7 bytes for each exchange that has no neighbour; this is some nine million."""


class StatementError(GatewayError):
    """The statement does not hold: it was changed, or is not what the log says."""

    reason = Reason.PROOF_INVALID


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The exchanges of one day that have all else in common as well. What does not apply is left out."""

    day: str
    contract: str = ""
    """Identity of the contract; left out of exchanges without one, as denials may be."""
    dataset: str = ""
    consumer: str = ""
    purpose: str = ""
    outcome: Outcome
    fields: tuple[str, ...] = ()
    """Names of the fields released, sorted."""
    reasons: tuple[str, ...] = ()
    """Reason codes of denials and failures."""
    exchanges: int
    records: int = 0
    pages: int = 0
    entries: str
    """The indices of the entries that these numbers are the sums of, as ranges: `3,17-19`."""


class StatedContract(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A contract that lines name, and what it says of price and quotas."""

    id: str
    name: str
    version: int
    valid_from: str
    valid_until: str
    price: Price | None = None
    quotas: tuple[QuotaUse, ...] = ()


class Totals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The sums over all lines."""

    exchanges: int
    released: int
    denied: int
    failed: int
    open: int
    records: int


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the gateway signs."""

    v: int
    gateway: str
    """The log's origin."""
    member: str
    month: str
    """Such as `2026-10`."""
    so_far: bool = False
    """Whether it was made before the month's exchanges had all ended: the one that is issued counts more."""
    issued: str
    """RFC 3339."""
    since: str
    """RFC 3339: from when on entries are needed to count what stands here. The month's beginning, or that of
    the term of a contract with a quota for all of it."""
    tree_size: int
    """The entries below this index were counted."""
    root: str
    """Root hash of the tree of that size, base64."""
    checkpoint: str
    """The log's checkpoint of that size, a signed note."""
    contracts: tuple[StatedContract, ...]
    lines: tuple[Line, ...]
    amounts: tuple[Amount, ...]
    totals: Totals

    @property
    def period(self) -> Period:
        """The days of the month."""
        return month_of(self.month)

    @property
    def until(self) -> datetime:
        """Up to when entries are needed: the end of the month, and time for exchanges under way to end."""
        return self.period.ends + CLOSING_TIME


@dataclass(frozen=True, slots=True)
class Figures:
    """The part of a statement that is counted."""

    contracts: tuple[StatedContract, ...]
    lines: tuple[Line, ...]
    amounts: tuple[Amount, ...]
    totals: Totals


@dataclass(frozen=True, slots=True)
class ContractTerms:
    """What a statement needs to know of a contract."""

    id: str
    name: str
    version: int
    valid_from: str
    valid_until: str
    price: Price | None
    quotas: tuple[Quota, ...]

    @classmethod
    def of(cls, contract: Contract) -> ContractTerms:
        """Return what a statement says of `contract`."""
        terms = contract.terms
        return cls(
            contract.id,
            terms.contract,
            terms.version,
            terms.valid_from,
            terms.valid_until,
            terms.price,
            terms.quotas,
        )

    @classmethod
    def stated(cls, contract: StatedContract) -> ContractTerms:
        """Return the same of a contract as a statement has it."""
        quotas = tuple(Quota(records=use.records, per=use.per, each=use.each) for use in contract.quotas)
        return cls(
            contract.id,
            contract.name,
            contract.version,
            contract.valid_from,
            contract.valid_until,
            contract.price,
            quotas,
        )


def needed_since(period: Period, contracts: Sequence[ContractTerms]) -> datetime:
    """Return from when on entries are needed for a statement of `period` that tells of `contracts`."""
    terms = [
        parse_rfc3339(contract.valid_from)
        for contract in contracts
        if any(quota.per is Per.TERM for quota in contract.quotas)
    ]
    return min([period.begins, *terms])


def figures(period: Period, lines: Sequence[Counted], contracts: Mapping[str, ContractTerms]) -> Figures:
    """Return what a statement of `period` says.

    `lines` are those from `needed_since` to the period's end; `contracts` the member's, by identity. Those of
    them that were in force or used in the period are told of, used up or not.
    """
    own = [line for line in lines if period.has(line.group.day)]
    stated = tuple(
        StatedContract(
            id=terms.id,
            name=terms.name,
            version=terms.version,
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            price=terms.price,
            quotas=tuple(quota_uses(lines, quota, terms.id, period) for quota in terms.quotas),
        )
        for terms in sorted(contracts.values(), key=lambda terms: (terms.name, terms.version, terms.id))
    )
    prices = {terms.id: terms.price for terms in contracts.values() if terms.price is not None}
    return Figures(stated, tuple(map(_line, own)), amounts(own, prices), _totals(own))


def told_contracts(
    period: Period, lines: Sequence[Counted], contracts: Mapping[str, ContractTerms]
) -> dict[str, ContractTerms]:
    """Return the contracts that a statement of `period` tells of: in force in it by their dates, or used."""
    used = {line.group.contract for line in lines if period.has(line.group.day)}
    return {
        id_: terms
        for id_, terms in contracts.items()
        if id_ in used
        or (
            parse_rfc3339(terms.valid_from) < period.ends and parse_rfc3339(terms.valid_until) > period.begins
        )
    }


def make_statement(
    counted: Figures,
    *,
    member: str,
    month: str,
    so_far: bool = False,
    since: datetime,
    issued: datetime,
    checkpoint: str,
    verifier: Verifier,
) -> Statement:
    """Return the statement of `counted`, at the tree of `checkpoint`, which the log's key has signed."""
    head = open_checkpoint(checkpoint, [verifier])
    return Statement(
        v=1,
        gateway=head.origin,
        member=member,
        month=month,
        so_far=so_far,
        issued=rfc3339(issued),
        since=rfc3339(since),
        tree_size=head.size,
        root=base64.b64encode(head.root).decode(),
        checkpoint=checkpoint,
        contracts=counted.contracts,
        lines=counted.lines,
        amounts=counted.amounts,
        totals=counted.totals,
    )


def sign_statement(statement: Statement, signer: SigningKey) -> dsse.Envelope:
    """Return the statement, canonical and signed."""
    return dsse.sign(encode_canonical(statement), STATEMENT_TYPE, [signer])


def open_statement(envelope: dsse.Envelope, trust: Trust) -> tuple[Statement, Checkpoint]:
    """Return the statement in `envelope` and its log's checkpoint, or raise `StatementError`.

    1. The envelope has a signature by a gateway key of the trust file.
    2. The payload is a statement in canonical form, whose times and month are such.
    3. Its checkpoint is signed by a key of the trust file for that log, and has the size and root it states.
    """
    if len(envelope.payload) > MAX_STATEMENT_BYTES:
        raise StatementError("The statement is too large to be one.")
    try:
        payload, _ = dsse.verify(envelope, STATEMENT_TYPE, trust.gateway_verify_keys)  # 1
    except SignatureError as error:
        raise StatementError(
            "The statement is not signed by a gateway key of the trust file, or was changed.",
            reason=error.reason,
        ) from error
    statement = parse_statement(payload)  # 2
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    try:
        checkpoint = open_checkpoint(statement.checkpoint, verifiers, origin=statement.gateway)  # 3
    except NoteError as error:
        raise StatementError("The checkpoint in the statement is not signed by the log's key.") from error
    root = base64.b64encode(checkpoint.root).decode()
    if (checkpoint.size, root) != (statement.tree_size, statement.root):
        raise StatementError("The checkpoint in the statement is of another tree than the statement.")
    return statement, checkpoint


def parse_statement(payload: bytes) -> Statement:
    """Return the statement that `payload` is the canonical form of; raise `StatementError`."""
    try:
        statement = msgspec.json.decode(payload, type=Statement)
        month_of(statement.month)
        is_time = all(rfc3339(parse_rfc3339(text)) == text for text in (statement.issued, statement.since))
    except (*DECODE_ERRORS, ValueError, GatewayError) as error:
        raise StatementError("The envelope does not hold a statement.") from error
    if statement.v != 1:
        raise StatementError("The statement is of a version that this release does not know.")
    if not is_time or encode_canonical(statement) != payload:
        raise StatementError("The statement is not in canonical form.")
    return statement


def issuable_from(period: Period) -> datetime:
    """Return from when on the statement of `period` can be made: every exchange of it has ended."""
    return period.ends + CLOSING_TIME + timedelta(minutes=1)


def _line(counted: Counted) -> Line:
    group = counted.group
    return Line(
        day=group.day,
        contract=group.contract,
        dataset=group.dataset,
        consumer=group.consumer,
        purpose=group.purpose,
        outcome=group.outcome,
        fields=counted.fields,
        reasons=counted.reasons,
        exchanges=counted.exchanges,
        records=counted.records,
        pages=counted.pages,
        entries=write_ranges(counted.entries),
    )


def _totals(lines: Sequence[Counted]) -> Totals:
    ended = dict.fromkeys(Outcome, 0)
    for line in lines:
        ended[line.group.outcome] += line.exchanges
    return Totals(
        exchanges=sum(ended.values()),
        released=ended[Outcome.RELEASED],
        denied=ended[Outcome.DENIED],
        failed=ended[Outcome.FAILED],
        open=ended[Outcome.OPEN],
        records=sum(line.records for line in lines),
    )
