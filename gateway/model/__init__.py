"""The words of the domain as frozen types. This package imports nothing of ours."""

from gateway.model.dataset import Dataset, Field, FieldType, Freshness, Mask, Retention
from gateway.model.decision import Decision, Obligation, Treatment
from gateway.model.entry import ENTRY_VERSION, Entry, EntryKind
from gateway.model.member import Member, MemberState, Role
from gateway.model.names import (
    NAME_PATTERN,
    dataset_name,
    member_host,
    member_name,
    parse_dataset_name,
    parse_member_name,
)
from gateway.model.query import Actor, Operation, Query, Subject

__all__ = [
    "ENTRY_VERSION",
    "NAME_PATTERN",
    "Actor",
    "Dataset",
    "Decision",
    "Entry",
    "EntryKind",
    "Field",
    "FieldType",
    "Freshness",
    "Mask",
    "Member",
    "MemberState",
    "Obligation",
    "Operation",
    "Query",
    "Retention",
    "Role",
    "Subject",
    "Treatment",
    "dataset_name",
    "member_host",
    "member_name",
    "parse_dataset_name",
    "parse_member_name",
]
