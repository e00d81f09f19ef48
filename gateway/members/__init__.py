"""The members of this gateway: who they are, their keys, and whether they are served."""

from gateway.members.directory import Directory
from gateway.members.sqlite import SqliteMemberStore
from gateway.members.store import MemberError, MemberSource, MemberStore, Record
from gateway.members.stores import open_member_store

__all__ = [
    "Directory",
    "MemberError",
    "MemberSource",
    "MemberStore",
    "Record",
    "SqliteMemberStore",
    "open_member_store",
]
