"""The query statement: what a consumer signs when it asks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec


class Operation(StrEnum):
    """The way the answer is to come."""

    QUERY = "query"
    STREAM = "stream"
    MATCH = "match"
    LIST = "list"


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose records are asked for."""

    field: str
    """The dataset's field that identifies the subject; in a list question the kind of identifier, such as
    `uscc`, as several lists may call the field differently."""
    value: str
    """The identifier as the consumer knows it; normalised and checked before use."""


class Actor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The person or system at the consumer that asks."""

    id: str
    """The consumer's own name for it (staff number, system name)."""
    case: str = ""
    """The consumer's case or file number."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query statement, the payload of the signed envelope (`application/vnd.sluicegate.query.v1+json`)."""

    audience: str
    """The gateway asked: its log's origin. A statement for another gateway is refused."""
    operation: Operation
    dataset: str
    """`members/{member}/datasets/{dataset}`; a list question may name `list-sets/{list_set}` instead."""
    purpose: str
    nonce: str
    """16 random bytes, base64url without padding (22 characters); never used twice."""
    time: str
    """When it was signed: RFC 3339 with an offset."""
    subjects: tuple[Subject, ...] = ()
    """Any of these subjects; all name the same field. Empty: every record."""
    filters: dict[str, str] = {}
    """Field name to the exact value wanted; all must hold."""
    fields: tuple[str, ...] = ()
    """Fields wanted; empty means all that policy grants. A named field that is not granted denies."""
    legal_basis: str = ""
    memorandum: str = ""
    document: str = ""
    """Reference of the official document (order, warrant, consent) that the purpose may ask for."""
    match: dict[str, str] = {}
    """`MATCH` only: field name to the value the consumer believes; answered yes or no."""
    actor: Actor | None = None
    contract: Annotated[str, msgspec.Meta(max_length=80)] | msgspec.UnsetType = msgspec.UNSET
    """Identity or name of the contract under which records of a contributor are asked for. Left out or empty:
    the one that covers the dataset for this consumer and purpose, if it is exactly one."""
    at_least: Annotated[int, msgspec.Meta(ge=1, le=1000)] | msgspec.UnsetType = msgspec.UNSET
    """`LIST` only: on how many of the lists the subject must be for a yes. Left out means 1."""
