"""A member store whose rows count only as far as the log bears them out.

Whoever can write to the member store could otherwise register a key, lift a suspension or widen a role,
and nobody would see it. With this between store and directory such a member is not served: the change
would need an entry that the log's key has signed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.audit.errors import LogUnavailableError
from gateway.members import MemberError, MemberSource
from gateway.model import Member, MemberState
from gateway.recorded.members import MemberContradiction, RecordedMembers

_CHANGE_UNDER_WAY_S: Final = 0.1
"""A change stands in the log a moment before it stands in the store."""


class VettedMembers:
    """The members of a store, those whom the log contradicts suspended and without keys.

    Every method blocks and raises `MemberError`; also when the log cannot be read, as who is a member is
    not known then.
    """

    def __init__(
        self,
        source: MemberSource,
        recorded: RecordedMembers,
        on_contradictions: Callable[[Sequence[MemberContradiction]], None],
    ) -> None:
        """Take the store, the log's record, and who hears of the contradictions whenever they change."""
        self._source = source
        self._recorded = recorded
        self._on_contradictions = on_contradictions
        self._told: list[MemberContradiction] = []
        self._lock = threading.Lock()

    def revision(self) -> int:
        """Return the store's revision."""
        return self._source.revision()

    def members(self) -> tuple[int, list[Member]]:
        """Return (revision, every member), with nobody served whom the log contradicts."""
        with self._lock:
            revision, members = self._source.members()
            found = self._contradictions(members)
            if found:
                time.sleep(_CHANGE_UNDER_WAY_S)
                revision, members = self._source.members()
                found = self._contradictions(members)
            if found != self._told:
                self._told = found
                self._on_contradictions(found)
            refused = {contradiction.member for contradiction in found}
            return revision, [_refused(each) if each.id in refused else each for each in members]

    def _contradictions(self, members: list[Member]) -> list[MemberContradiction]:
        try:
            return self._recorded.contradictions(members)
        except LogUnavailableError as error:
            raise MemberError(f"The members cannot be compared with the log. {error.message}") from error


def _refused(member: Member) -> Member:
    return msgspec.structs.replace(member, state=MemberState.SUSPENDED, signing_keys={}, endpoint=None)
