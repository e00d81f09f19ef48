"""Members as the log records them, compared with those in the member store.

Every administrative entry about a member tells the state that the change leads to, and commits to it by
a digest (docs/formats/administrative-entries.md). The last such entry of each member is what holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.evidence.canonical import encode_canonical
from gateway.model import EntryKind, Member, member_name, parse_member_name
from gateway.recorded.entries import RecordedEntries, RecordedEntry

MEMBER_KINDS: Final = (
    EntryKind.MEMBER_ADDED,
    EntryKind.MEMBER_CHANGED,
    EntryKind.MEMBER_CONFIRMED,
    EntryKind.MEMBER_SUSPENDED,
    EntryKind.MEMBER_RESUMED,
    EntryKind.KEY_ADDED,
    EntryKind.KEY_REVOKED,
)
"""The kinds of entries that tell a member's state."""

_DIGEST_FORMAT: Final = 1
"""Version of what goes into the digest; part of it."""


def member_digest(member: Member) -> str:
    """Return `sha256:<hex>` over the canonical JSON (RFC 8785) of all that is known of `member`."""
    content = {
        "format": _DIGEST_FORMAT,
        "id": member.id,
        "title": member.title,
        "class": member.member_class,
        "roles": sorted(member.roles),
        "uri": member.uri,
        "endpoint": member.endpoint or "",
        "state": member.state.value,
        "keys": {key_id: public.hex() for key_id, public in member.signing_keys.items()},
    }
    return "sha256:" + hashlib.sha256(encode_canonical(content)).hexdigest()


def describe_member(member: Member) -> dict[str, str]:
    """Return the state of `member` as the detail of an entry."""
    return {
        "title": member.title,
        "class": member.member_class,
        "roles": ",".join(sorted(member.roles)),
        "uri": member.uri,
        "endpoint": member.endpoint or "",
        "state": member.state.value,
        "keys": ",".join(sorted(member.signing_keys)),
        "digest": member_digest(member),
    }


class Contradiction(StrEnum):
    """How store and log contradict each other about a member."""

    UNRECORDED = "unrecorded"
    """The store has a member that no entry tells of."""
    ALTERED = "altered"
    """The store says something else than the member's last entry."""
    MISSING = "missing"
    """The log tells of a member that the store does not have."""


@dataclass(frozen=True, slots=True)
class MemberContradiction:
    """A member about whom store and log contradict each other."""

    member: str
    what: Contradiction
    differing: tuple[str, ...] = ()
    """What differs of an altered member, by the names in entries' details; empty if the entry does not
    say (it is of a release before these were recorded)."""
    entry: str = ""
    """The member's last entry, such as `entries/17`."""


class RecordedMembers:
    """The members as of the last entry about each; reads on where it left off. One thread at a time."""

    def __init__(self, entries: RecordedEntries) -> None:
        self._entries = entries
        self._read_to = 0
        self._last: dict[str, RecordedEntry] = {}

    def contradictions(self, members: Iterable[Member]) -> list[MemberContradiction]:
        """Compare `members` with the log as it stands; return the contradictions in order of id.

        Raises `LogMismatchError` and `LogUnavailableError`.
        """
        self._read_on()
        stored = {member.id: member for member in members}
        found = []
        for member_id in sorted(stored.keys() | self._last.keys()):
            contradiction = _compare(member_id, stored.get(member_id), self._last.get(member_id))
            if contradiction is not None:
                found.append(contradiction)
        return found

    def _read_on(self) -> None:
        if not self._read_to:
            self._read_closed(self._entries.older)
        size, entries = self._entries.of_kinds(MEMBER_KINDS, since=self._read_to)
        self._take(entries)
        self._read_to = size

    def _read_closed(self, log: RecordedEntries | None) -> None:
        if log is not None:
            self._read_closed(log.older)
            self._take(log.of_kinds(MEMBER_KINDS)[1])

    def _take(self, entries: Iterable[RecordedEntry]) -> None:
        for item in entries:
            try:
                member_id = parse_member_name(item.entry.subject)
            except ValueError:
                # Keys of the deployment itself have entries of the same kinds.
                continue
            self._last[member_id] = item


def _compare(
    member_id: str, stored: Member | None, recorded: RecordedEntry | None
) -> MemberContradiction | None:
    if recorded is None:
        return MemberContradiction(member_id, Contradiction.UNRECORDED)
    if stored is None:
        return MemberContradiction(member_id, Contradiction.MISSING, entry=recorded.name)
    detail = recorded.entry.detail
    described = describe_member(stored)
    if detail.get("digest") == described["digest"]:
        return None
    return MemberContradiction(member_id, Contradiction.ALTERED, _differing(detail, described), recorded.name)


def _differing(recorded: Mapping[str, str], described: Mapping[str, str]) -> tuple[str, ...]:
    if "digest" not in recorded:
        return ()
    names = [name for name in described if name != "digest" and recorded.get(name, "") != described[name]]
    # The ids of the keys are the same and the digest is not: the bytes of a key were exchanged.
    return tuple(names) or ("keys",)


def told(contradiction: MemberContradiction) -> str:
    """Return a sentence for people."""
    name = member_name(contradiction.member)
    match contradiction.what:
        case Contradiction.UNRECORDED:
            return f"{name} stands in the member store, but no entry of the log tells of it"
        case Contradiction.MISSING:
            return f"{name} is missing from the member store; {contradiction.entry} tells of it"
        case Contradiction.ALTERED if contradiction.differing:
            differing = ", ".join(contradiction.differing)
            return f"{name} differs from {contradiction.entry} in: {differing}"
        case Contradiction.ALTERED:
            return f"{name}: {contradiction.entry} is of an older release and does not tell its state"
