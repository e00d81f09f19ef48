"""Where members are kept, as everybody sees it.

Every change raises one revision number, by which running gateways notice it.
"""

from __future__ import annotations

from typing import Protocol

from gateway.errors import ConfigError
from gateway.evidence.keys import VerifyKey
from gateway.model import Member, MemberState, Role

MemberRow = tuple[str, str, str, str, str, str | None, str]
"""Id, title, class, roles (with commas between), URI, endpoint, state."""


class MemberError(ConfigError):
    """A change to the members cannot be made, or they cannot be read."""


class MemberStore(Protocol):
    """Keeps members. Every method is one transaction, blocks, and raises `MemberError` on a fault."""

    def revision(self) -> int:
        """Return the number that every change raises."""
        ...

    def members(self) -> tuple[int, list[Member]]:
        """Return (revision, every member), read in one transaction."""
        ...

    def add(self, member: Member) -> None:
        """Add `member`; raise `MemberError` if its id, URI or a key is already there."""
        ...

    def set_state(self, member_id: str, state: MemberState) -> None:
        """Suspend or resume a member; raise `MemberError` if there is none of this id."""
        ...

    def add_key(self, member_id: str, key: VerifyKey) -> None:
        """Register one more signing key of a member."""
        ...

    async def await_change(self, timeout_s: float) -> None:
        """Return when the members may have changed, at the latest after `timeout_s`; never raises."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


def check_keys(member: Member) -> None:
    """Raise `MemberError` unless each signing key has the id that it is given under."""
    for key_id, public in member.signing_keys.items():
        if VerifyKey(public).key_id != key_id:
            raise MemberError("A signing key does not have the id it is given under.")


def read_member(row: MemberRow, keys: dict[str, bytes]) -> Member:
    """Return the member that a stored row tells of."""
    member_id, title, member_class, roles, uri, endpoint, state = row
    return Member(
        id=member_id,
        title=title,
        member_class=member_class,
        roles=frozenset(Role(role) for role in roles.split(",") if role),
        uri=uri,
        signing_keys=keys,
        state=MemberState(state),
        endpoint=endpoint,
    )


def write_member(member: Member) -> MemberRow:
    """Return the row that is stored of a member; its keys stand beside."""
    return (
        member.id,
        member.title,
        member.member_class,
        ",".join(sorted(member.roles)),
        member.uri,
        member.endpoint,
        member.state.value,
    )
