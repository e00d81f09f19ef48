"""The members as a running gateway sees them: in memory, never more than a quarter second old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from gateway.errors import ConfigError, GatewayError, Reason
from gateway.evidence.keys import VerifyKey
from gateway.members.store import MemberSource
from gateway.model import Member, MemberState

REFRESH_INTERVAL_S: Final = 0.25
"""How often a change made elsewhere is looked for, if nothing tells of it sooner; a suspension must bite
within one second (P11)."""

STALE_AFTER_S: Final = 1.0
"""A directory that could not be read for this long serves nobody: a suspension might be in it."""


class _Snapshot:
    """One consistent state of the member store, indexed."""

    def __init__(self, revision: int, members: Iterable[Member]) -> None:
        self.revision = revision
        self.by_id = {member.id: member for member in members}
        self.by_uri = {member.uri: member for member in self.by_id.values()}
        self.keys = {
            member.id: {key_id: VerifyKey(public) for key_id, public in member.signing_keys.items()}
            for member in self.by_id.values()
        }


class Directory:
    """Answers who a caller is. Only the event loop reads it; a background task renews it."""

    def __init__(self, store: MemberSource) -> None:
        self._store = store
        self._snapshot = _Snapshot(*store.members())
        self._read_at: float | None = None
        self._listeners: list[Callable[[], None]] = []
        self._conditions: list[Callable[[], None]] = []

    def caller(self, uri: str) -> Member:
        """Return the active member whose certificate names `uri`.

        Raises `GatewayError` with `MEMBER_UNKNOWN` or `MEMBER_SUSPENDED`.
        """
        self._check_fresh()
        member = self._snapshot.by_uri.get(uri)
        if member is None:
            raise GatewayError(
                "The certificate is valid, but no member is registered under its URI; "
                "ask the operator to run `gateway member add`.",
                reason=Reason.MEMBER_UNKNOWN,
            )
        if member.state is not MemberState.ACTIVE:
            raise GatewayError(
                "This member is suspended; ask the operator of the gateway.",
                reason=Reason.MEMBER_SUSPENDED,
            )
        return member

    def provider(self, member_id: str) -> Member:
        """Return the active member that holds a dataset; raise `GatewayError` if it cannot serve."""
        self._check_fresh()
        member = self._snapshot.by_id.get(member_id)
        if member is None or member.state is not MemberState.ACTIVE or not member.endpoint:
            raise GatewayError(
                "The provider of this dataset is not connected to the gateway now; try again later.",
                reason=Reason.PROVIDER_UNAVAILABLE,
                provider=member_id,
            )
        return member

    def contributor(self, member_id: str) -> Member:
        """Return the active member whose records the gateway keeps; raise `GatewayError` if it is not one.

        It needs no endpoint: nobody asks it.
        """
        self._check_fresh()
        member = self._snapshot.by_id.get(member_id)
        if member is None or member.state is not MemberState.ACTIVE:
            raise GatewayError(
                "The contributor of this dataset is no active member now; ask the operator of the gateway.",
                reason=Reason.PROVIDER_UNAVAILABLE,
                provider=member_id,
            )
        return member

    def is_active(self, member_id: str) -> bool:
        """Whether the member may be served at this moment (asked again during long streams)."""
        self._check_fresh()
        member = self._snapshot.by_id.get(member_id)
        return member is not None and member.state is MemberState.ACTIVE

    def signing_keys(self, member_id: str) -> dict[str, VerifyKey]:
        """Return the verification keys of a member by key id."""
        return self._snapshot.keys.get(member_id, {})

    def members(self) -> list[Member]:
        """Return every member, suspended ones too."""
        return list(self._snapshot.by_id.values())

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` on the event loop after each change of the members."""
        self._listeners.append(listener)

    def serve_only_while(self, condition: Callable[[], None]) -> None:
        """Serve nobody while `condition` raises `GatewayError`: it is asked with every caller."""
        self._conditions.append(condition)

    async def keep_fresh(self, on_error: Callable[[ConfigError], None]) -> None:
        """Renew the snapshot until cancelled; `on_error` hears of each failed reading."""
        loop = asyncio.get_running_loop()
        self._read_at = loop.time()
        while True:
            await self._store.await_change(REFRESH_INTERVAL_S)
            try:
                await self.refresh()
                self._read_at = loop.time()
            except ConfigError as error:
                on_error(error)

    async def refresh(self) -> None:
        """Read the store again if its revision has changed."""
        if await asyncio.to_thread(self._store.revision) == self._snapshot.revision:
            return
        self._snapshot = await asyncio.to_thread(lambda: _Snapshot(*self._store.members()))
        for listener in self._listeners:
            listener()

    def _check_fresh(self) -> None:
        for condition in self._conditions:
            condition()
        if self._read_at is None:
            return
        if asyncio.get_running_loop().time() - self._read_at > STALE_AFTER_S:
            raise GatewayError(
                "The gateway cannot read its member store and serves nobody until it can; try again later.",
                reason=Reason.MEMBERS_UNAVAILABLE,
            )
