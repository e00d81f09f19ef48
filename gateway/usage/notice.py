"""Notices: what a contributor is told of without asking. The rules are pure; see docs/usage.md.

Each notice has a key that is the same whenever and wherever the rule finds it: it is given once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from statistics import median
from typing import Final

import msgspec

from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.model.contract import Contract, ContractState, Quota
from gateway.usage.book import Counted
from gateway.usage.charges import span_of

NOTICE_TYPE: Final = dsse.payload_type("notice")

WARN_AT_PERCENT: Final = 80
"""Of a quota."""
USUAL_DAYS: Final = 14
"""The days before, whose median is what is usual."""
UNUSUAL_TIMES: Final = 3
"""A day is unusual beyond so many times that."""

_ENDED: Final = frozenset({ContractState.SUSPENDED, ContractState.TERMINATED, ContractState.EXPIRED})


class NoticeKind(StrEnum):
    """What a contributor is told of."""

    FIRST_USE = "first-use"
    """A recipient got records under the contract for the first time."""
    QUOTA = "quota"
    """80 % of a quota are used."""
    UNUSUAL_VOLUME = "unusual-volume"
    """More records of a dataset left on one day than three times the median of the fourteen days before."""
    CONTRACT_ENDED = "contract-ended"
    """The contract was suspended or terminated, or has expired."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule has found."""

    key: str
    """Names it among the member's notices."""
    kind: NoticeKind
    contract: str = ""
    """Identity of the contract."""
    consumer: str = ""
    dataset: str = ""
    detail: dict[str, str] = {}


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A notice as it is given: the payload that the gateway signs for a webhook."""

    v: int
    gateway: str
    """The log's origin."""
    member: str
    """To whom it is given."""
    id: int
    """Rises from notice to notice."""
    time: str
    """When it was found, RFC 3339."""
    kind: NoticeKind
    contract: str = ""
    consumer: str = ""
    dataset: str = ""
    detail: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """The numbers of the rules."""

    floor_records: int
    """A day with fewer records of a dataset is never unusual."""


def sign_notice(notice: Notice, signer: SigningKey) -> dsse.Envelope:
    """Return the notice, canonical and signed."""
    return dsse.sign(encode_canonical(notice), NOTICE_TYPE, [signer])


def find(
    lines: Sequence[Counted], contracts: Mapping[str, Contract], today: str, rules: NoticeRules
) -> Iterator[Finding]:
    """Yield what there is to tell on the day `today` about all `lines` of a member and its contracts.

    Of quotas and volumes only the spans with `today` in them are looked at; what was missed while no gateway
    ran stands in the statement.
    """
    released = [line for line in lines if line.records]
    yield from _first_uses(released, contracts)
    for contract in contracts.values():
        for number, quota in enumerate(contract.terms.quotas):
            yield from _quota(released, contract.id, number, quota, today)
    yield from _unusual_days(released, today, rules)
    yield from _endings(contracts.values())


def _first_uses(lines: Iterable[Counted], contracts: Mapping[str, Contract]) -> Iterator[Finding]:
    first: dict[tuple[str, str], Counted] = {}
    for line in lines:
        contract = contracts.get(line.group.contract)
        if contract is not None:
            # A new version of a contract makes nobody a new recipient.
            first.setdefault((contract.terms.contract, line.group.consumer), line)
    for (name, consumer), line in first.items():
        yield Finding(
            key=f"first-use/{name}/{consumer}",
            kind=NoticeKind.FIRST_USE,
            contract=line.group.contract,
            consumer=consumer,
            dataset=line.group.dataset,
            detail={"day": line.group.day, "purpose": line.group.purpose},
        )


def _quota(
    lines: Iterable[Counted], contract: str, number: int, quota: Quota, today: str
) -> Iterator[Finding]:
    span = span_of(today, quota.per)
    used: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.group.contract == contract and span_of(line.group.day, quota.per) == span:
            used[line.group.consumer if quota.each == "consumer" else ""] += line.records
    for consumer, records in sorted(used.items()):
        if records * 100 >= quota.records * WARN_AT_PERCENT:
            yield Finding(
                key=f"quota/{contract}/{number}/{span}/{consumer}",
                kind=NoticeKind.QUOTA,
                contract=contract,
                consumer=consumer,
                detail={"per": quota.per.value, "span": span, "quota": str(quota.records)},
            )


def _unusual_days(lines: Iterable[Counted], today: str, rules: NoticeRules) -> Iterator[Finding]:
    days: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for line in lines:
        days[line.group.dataset][line.group.day] += line.records
    before = [
        (date.fromisoformat(today) - timedelta(days=back)).isoformat() for back in range(1, USUAL_DAYS + 1)
    ]
    for dataset, volumes in sorted(days.items()):
        usual = int(median(volumes.get(day, 0) for day in before))
        if volumes.get(today, 0) > max(UNUSUAL_TIMES * usual, rules.floor_records):
            yield Finding(
                key=f"unusual-volume/{dataset}/{today}",
                kind=NoticeKind.UNUSUAL_VOLUME,
                dataset=dataset,
                detail={"day": today, "median": str(usual)},
            )


def _endings(contracts: Iterable[Contract]) -> Iterator[Finding]:
    for contract in contracts:
        if contract.state in _ENDED:
            yield Finding(
                key=f"contract-ended/{contract.id}/{contract.state.value}/{contract.changed}",
                kind=NoticeKind.CONTRACT_ENDED,
                contract=contract.id,
                detail={"state": contract.state.value, "since": contract.changed},
            )
