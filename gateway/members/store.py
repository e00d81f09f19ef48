"""Where members are kept, as everybody sees it.

Every change raises one revision number, by which running gateways notice it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.errors import ConfigError
from gateway.evidence.keys import VerifyKey
from gateway.model import Member, MemberState, Role

MemberRow = tuple[str, str, str, str, str, str | None, str]
"""Id, title, class, roles (with commas between), URI, endpoint, state."""


class MemberError(ConfigError):
    """A change to the members cannot be made, or they cannot be read."""


Record = Callable[[Member], object]
"""Hears of a member as it is about to be, before that counts; the change is undone if it raises."""


def unrecorded(_: Member) -> None:
    """Tell nobody: for stores that no gateway serves from."""


class MemberSource(Protocol):
    """Where members are read from. What reads blocks and raises `MemberError`."""

    def revision(self) -> int:
        """Return the number that every change raises."""
        ...

    def members(self) -> tuple[int, list[Member]]:
        """Return (revision, every member), of one moment."""
        ...

    async def await_change(self, timeout_s: float) -> None:
        """Return when the members may have changed, at the latest after `timeout_s`; never raises."""
        ...


class MemberStore(MemberSource, Protocol):
    """Keeps members. Every method is one transaction, blocks, and raises `MemberError` on a fault."""

    def add(self, member: Member, record: Record = unrecorded) -> None:
        """Add `member`; raise `MemberError` if its id, URI or a key is already there.

        `record` is called with it before it counts; if that raises, nothing is added.
        """
        ...

    def change(
        self, member_id: str, alter: Callable[[Member], Member], record: Record = unrecorded
    ) -> Member:
        """Put what `alter` makes of a member in its place, and return it.

        `record` is called with it before it counts. All in one transaction, so that nobody else changes
        a member meanwhile, and nothing is changed if either raises. Raises `MemberError` if there is no
        such member, or if a key or the URI is another's.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


def check_keys(member: Member) -> None:
    """Raise `MemberError` unless each signing key has the id that it is given under."""
    for key_id, public in member.signing_keys.items():
        if VerifyKey(public).key_id != key_id:
            raise MemberError("A signing key does not have the id it is given under.")


def altered(member_id: str, known: Iterable[Member], alter: Callable[[Member], Member]) -> Member:
    """Return what `alter` makes of the member `member_id` among `known`.

    Raises `MemberError` if there is none, or if it would not keep its id, or its keys not their own.
    """
    member = next((each for each in known if each.id == member_id), None)
    if member is None:
        raise MemberError(f"There is no member {member_id}; see `gateway member list`.")
    changed = alter(member)
    if changed.id != member_id:
        raise MemberError("A member keeps its id; add a new member instead.")
    check_keys(changed)
    return changed


def already_registered(member_id: str) -> MemberError:
    """Return the refusal of a new member of which something is another's."""
    return MemberError(f"The member {member_id}, its URI or its signing key is already registered.")


def registered_for_another(member_id: str) -> MemberError:
    """Return the refusal of a change that would take what is another member's."""
    return MemberError(f"The URI or a signing key of {member_id} is registered for another member already.")


def read_member(row: MemberRow, keys: dict[str, bytes]) -> Member:
    """Return the member that a stored row tells of; raise `MemberError` if no command writes such a row."""
    member_id, title, member_class, roles, uri, endpoint, state = row
    try:
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
    except ValueError as error:
        raise MemberError(
            f"The member store says of {member_id} what no command writes (an unknown role or state); "
            "restore the store."
        ) from error


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
