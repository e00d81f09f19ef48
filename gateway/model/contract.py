"""Contracts: the terms under which a contributor's records may be used, as its parties signed them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

from gateway.model.decision import Treatment

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,62}\Z")]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
_Moment = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
_Text = Annotated[str, msgspec.Meta(max_length=2000)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class ContractState(StrEnum):
    """Where a version of a contract stands in its life."""

    PROPOSED = "proposed"
    """Some parties have signed, not all."""
    COUNTERED = "countered"
    """A party answered with another version; this one can no longer come into force."""
    ACTIVE = "active"
    """All parties have signed. In force from `valid_from` to `valid_until`."""
    SUSPENDED = "suspended"
    TERMINATED = "terminated"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    """A later version has come into force."""


class PartyRole(StrEnum):
    """What a party to a contract is."""

    CONTRIBUTOR = "contributor"
    """Gives the records: `held` says whether into the gateway's vault or from its own provider."""
    RECIPIENT = "recipient"
    """Signs for those who receive; others may receive as well, by `recipients`."""


class Held(StrEnum):
    """Where the records of a contract are."""

    VAULT = "vault"
    PROVIDER = "provider"


class Party(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who must sign."""

    member: _Name
    role: PartyRole


class Recipients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who may receive: members by name, and everybody of some classes."""

    members: tuple[_Name, ...] = ()
    classes: tuple[_Name, ...] = ()


class FieldTerm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The mildest treatment of a field that the contract allows; policy may be stricter, never milder."""

    treatment: Treatment
    params: dict[str, str | int] = {}


class Per(StrEnum):
    """The period after which a quota begins anew (UTC); `term`: never."""

    DAY = "day"
    MONTH = "month"
    TERM = "term"


class Quota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The most records that may be given out in a period: to each consumer, or to all together."""

    records: _Positive
    per: Per
    each: Literal["consumer", "contract"] = "contract"


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a recipient owes: whole minor units of a currency for each thousand records."""

    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]
    minor_units_per_thousand: _Number


class Reciprocity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the contributor may get in return: `datasets` of others, up to `received` for `given` records.

    It may have received at most `allowance + given * received_per_hundred_given // 100` records, where
    `given` counts the records accepted from it, or released from its datasets, under the contract.
    """

    datasets: tuple[str, ...]
    received_per_hundred_given: _Number
    allowance: _Number = 0
    counts: Literal["contributed", "released"] = "contributed"


class DatasetTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One dataset under the contract."""

    name: str
    """`members/{contributor}/datasets/{dataset}`."""
    held: Held
    description: dict[str, Any]
    """The ODCS 3.1 data contract as JSON without fractions: schema, classification, SLA, retention."""
    fields: dict[str, FieldTerm] = {}
    """By field name; a field that is left out is treated as policy says."""
    key: tuple[str, ...] = ()
    """The fields that name a record: a later one with the same values takes its place."""


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A contract as signed. Canonical JSON (RFC 8785); `sha256:` of that is its identity for ever."""

    v: Literal[1]
    contract: _Name
    """The name that all versions share."""
    version: _Positive
    predecessor: _Digest | None = None
    """Identity of the version before; None for the first."""
    title: _Text
    parties: Annotated[tuple[Party, ...], msgspec.Meta(min_length=2, max_length=8)]
    datasets: Annotated[tuple[DatasetTerms, ...], msgspec.Meta(min_length=1, max_length=50)]
    purposes: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=50)]
    recipients: Recipients
    valid_from: _Moment
    valid_until: _Moment
    quotas: tuple[Quota, ...] = ()
    price: Price | None = None
    reciprocity: Reciprocity | None = None
    onward_sharing: Literal["forbidden", "with-consent"] = "forbidden"
    retention_days: _Number = 0
    """For how many days after the end the records are kept in the vault before their key is destroyed."""
    deletion_days: _Number = 0
    """Within how many days after the end recipients must have deleted what they got."""
    contact: _Text = ""
    """Whom to write to, an office rather than a person."""
    paper: _Digest | None = None
    """Digest of the contract on paper."""

    @property
    def contributor(self) -> str:
        """The member that gives the records (every contract has exactly one)."""
        return next(party.member for party in self.parties if party.role is PartyRole.CONTRIBUTOR)

    def dataset(self, name: str) -> DatasetTerms | None:
        """Return the terms of the dataset called `name`."""
        return next((dataset for dataset in self.datasets if dataset.name == name), None)


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a contract and where it stands."""

    id: str
    """`sha256:<hex>` of the canonical terms."""
    terms: Terms
    state: ContractState
    signed_by: tuple[str, ...]
    """The parties that have signed, sorted."""
    reason: str = ""
    """Why it was suspended or terminated, as the one who did it put it."""
    changed: str
    """RFC 3339: when it came into this state."""
    ended: str | None = None
    """RFC 3339: when it was terminated, expired or superseded."""
