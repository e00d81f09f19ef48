"""The members of this gateway: who they are, their keys, and whether they are served."""

from gateway.members.directory import Directory
from gateway.members.store import MemberError, MemberSource, MemberStore, Record

__all__ = ["Directory", "MemberError", "MemberSource", "MemberStore", "Record"]
