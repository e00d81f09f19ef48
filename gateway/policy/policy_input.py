"""What the rules are asked: the verified facts of one exchange, in one canonical form."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, Literal

import msgspec

from gateway.model import Mask, Retention
from gateway.policy.errors import PolicyError

MAX_INPUT_BYTES: Final = 256 * 1024
"""An input above this is refused unevaluated: an embedded evaluation cannot be stopped half-way."""

_MINUTE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z", re.ASCII)
_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class PartyFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of the exchange."""

    id: str
    member_class: str = msgspec.field(name="class")


class FieldFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field of the dataset; null for what it has not: identifier kind, coarsening, mask, link."""

    tier: str
    identifier: str | None
    generalise: str | None
    mask: Mask | None = None
    link: str | None = None


class DatasetFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dataset asked for."""

    name: str
    tier: str
    dataset_class: str = msgspec.field(name="class")
    fields: dict[str, FieldFacts]
    owner: str = ""
    """The member that a score is made for."""
    catalogue: str = ""
    """The catalogue entry that the dataset cites."""
    retention: Retention | None = None
    cohort: int = 0
    """The fewest records that may be told about where no subject is named."""
    contract: Literal["", "required"] = ""
    """`required`: its records are given under a contract in force only."""


class RecipientFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may receive under a contract; both sorted."""

    members: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


class TermFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mildest treatment of a field that a contract allows.

    `params`: of a mask `keep_first` and `keep_last`, of a generalisation its `method`; else none.
    """

    treatment: str
    params: dict[str, str | int] = {}


class ContractFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contract under which records of the dataset are asked for. It is in force."""

    id: str
    """`sha256:<hex>`."""
    name: str
    version: int
    contributor: str
    """The id of the member that gives the records."""
    parties: tuple[str, ...]
    """Ids of those who signed, sorted."""
    purposes: tuple[str, ...]
    """Sorted."""
    recipients: RecipientFacts
    fields: dict[str, TermFacts]
    """The terms for fields of this dataset; a field that is left out is treated as policy says."""
    valid_from: str
    valid_until: str
    """RFC 3339 in UTC with whole seconds, as `valid_from`; from then on the contract is over."""
    onward_sharing: str


class PolicyInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The input of one decision. The exchange builds it from verified facts only.

    Lists are sorted and free of repetition, so that equal questions have equal bytes. Raises `ValueError`
    otherwise, if `time` is not of the form `YYYY-MM-DDTHH:MM:00Z`, or if there is a contract and the dataset
    is not marked as needing one.
    """

    operation: str
    """`query`, `stream` or `match`."""
    time: str
    """RFC 3339, UTC, cut to the minute."""
    signed: bool
    """Whether the query came with a verified signature."""
    consumer: PartyFacts
    provider: PartyFacts
    dataset: DatasetFacts
    purpose: str
    legal_basis: str
    """Empty when none is stated."""
    memorandum: str
    """Empty when none is stated."""
    fields: tuple[str, ...]
    """Fields named in the query; empty asks for everything that may be had."""
    reads: tuple[str, ...]
    """Fields that subjects, filters and match attributes touch."""
    capabilities: tuple[str, ...]
    """What the gateway can carry out: treatments by name, duties as `duty:<name>`."""
    document: str = ""
    """Reference of an official document; empty when none is stated."""
    subjects: int = 0
    """How many subjects the query names."""
    contract: ContractFacts | None = None
    """None where the dataset is under no contract, or under none in force."""

    def __post_init__(self) -> None:
        if _MINUTE.fullmatch(self.time) is None:
            raise ValueError("time is not of the form YYYY-MM-DDTHH:MM:00Z")
        for names in (self.fields, self.reads, self.capabilities):
            if any(left >= right for left, right in pairwise(names)):
                raise ValueError("fields, reads and capabilities must be sorted and free of repetition")
        if self.contract is not None and self.dataset.contract != "required":
            raise ValueError("only a dataset that is marked as needing a contract is asked for under one")


def policy_minute(moment: datetime) -> str:
    """Return `moment` (aware) as the policy input wants it: UTC, cut to the minute."""
    return moment.astimezone(UTC).isoformat(timespec="minutes")[:16] + ":00Z"


def encode_input(policy_input: PolicyInput) -> bytes:
    """Return the canonical bytes of `policy_input`: JSON, keys sorted, no white space.

    Raise `PolicyError` (`POLICY_FAILED`) if they are more than `MAX_INPUT_BYTES`.
    """
    encoded = _ENCODER.encode(policy_input)
    if len(encoded) > MAX_INPUT_BYTES:
        raise PolicyError(
            "The facts of this exchange are too many for one decision. Name fewer fields, or ask the "
            "provider to describe the dataset in fewer.",
            limit_bytes=MAX_INPUT_BYTES,
        )
    return encoded


def decision_id(bundle_digest: str, encoded_input: bytes) -> str:
    """Return the id of the decision on `encoded_input` under the bundle with `bundle_digest`.

    `d-` and the first 32 hex digits of SHA-256 over digest, line feed, canonical input: whoever holds both
    can compute it again.
    """
    return "d-" + hashlib.sha256(bundle_digest.encode() + b"\n" + encoded_input).hexdigest()[:32]
