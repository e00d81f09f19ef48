"""A running process follows what is in force: it prepares a proposal, and swaps when the log says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from gateway.activation.active import ActivePolicy
from gateway.activation.candidate import Candidate, Fits, prepare, verify_recorded
from gateway.activation.errors import ActivationError, NotInForceError
from gateway.activation.history import Activation, RecordedActivations
from gateway.activation.shelf import Shelf
from gateway.activation.signers import Signers
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.policy.bundle import Bundle
from gateway.policy.engine import PolicyEngine

LOOK_INTERVAL_S: Final = 0.2
"""How often a proposal made elsewhere is looked for, and, while one is not in force, the log."""
LOG_INTERVAL_S: Final = 5.0
"""How often the log is looked at though nobody has proposed anything: an entry counts without a notice."""
EXPECT_S: Final = 60.0
"""How long after a proposal its entry is expected at any moment."""
STALE_AFTER_S: Final = 1.0
"""Who could not look for so long, or could not load what is in force, decides nothing any more."""
RETRY_S: Final = 1.0
"""How often loading what is in force is tried again: an OPA server may get the bundle a little later."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who hears of what happens."""

    activated: Callable[[Activation], None]
    failed: Callable[[GatewayError], None]
    """The bundle in force cannot be loaded: everything is denied."""
    rejected: Callable[[GatewayError], None]
    """A proposal that is not in force could not be loaded if it were."""


class PolicyFollower:
    """Keeps an `ActivePolicy` at what the log says is in force. Lives on that one's event loop."""

    def __init__(
        self,
        active: ActivePolicy,
        shelf: Shelf,
        recorded: RecordedActivations,
        signers: Signers,
        *,
        origin: str,
        make_engine: Callable[[Bundle], PolicyEngine],
        fits: Fits,
        clock: Clock,
        hooks: Hooks,
    ) -> None:
        self._active = active
        self._shelf = shelf
        self._recorded = recorded
        self._signers = signers
        self._origin = origin
        self._make_engine = make_engine
        self._fits = fits
        self._clock = clock
        self._hooks = hooks
        self._in_force: Activation | None = None
        self._candidate: Candidate | None = None
        self._seen = 0
        self._seen_at = 0.0
        self._log_at = 0.0
        self._read_at: float | None = None
        self._behind_since: float | None = None
        self._working: asyncio.Task[None] | None = None
        self._told = ""

    async def join(self) -> None:
        """Install what is in force, before anything is decided.

        Raises `NotInForceError` if nothing ever was, and whatever keeps it from being loaded.
        """
        self._seen, self._seen_at = (await asyncio.to_thread(self._shelf.latest))[0], _now()
        newest = await asyncio.to_thread(self._recorded.newest)
        if newest is None:
            raise NotInForceError(
                "No policy was ever activated in this deployment. Build one (`gateway policy build`), have "
                "an author and an approver sign it (`gateway policy sign`), then `gateway policy activate`."
            )
        await self._load(newest)
        self._active.deny_unless(self._require_current)

    async def keep_current(self) -> None:
        """Follow until cancelled."""
        self._read_at = self._log_at = _now()
        try:
            while True:
                await self._shelf.await_change(LOOK_INTERVAL_S)
                # What fails here is told by `_require_current`, to everybody who asks for something.
                with suppress(GatewayError):
                    await self._look()
        finally:
            if self._working is not None:
                self._working.cancel()

    async def _look(self) -> None:
        now = _now()
        sequence, statement = await asyncio.to_thread(self._shelf.latest)
        if sequence != self._seen:
            self._seen, self._seen_at = sequence, now
            self._work(self._rehearse(statement))
        is_expected = self._in_force is not None and statement != self._in_force.statement
        is_expected = is_expected and now - self._seen_at < EXPECT_S
        if is_expected or self._behind_since is not None or now - self._log_at > LOG_INTERVAL_S:
            newest = await asyncio.to_thread(self._recorded.newest)
            self._log_at = now
            if newest is not None and newest != self._in_force:
                if self._behind_since is None:
                    self._behind_since = now
                self._work(self._catch_up(newest))
        self._read_at = now

    def _work(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Do what takes long beside the looking; one thing at a time, and what is missed is seen again."""
        if self._working is not None and not self._working.done():
            coroutine.close()
            return
        self._working = asyncio.create_task(coroutine)

    async def _rehearse(self, statement: str) -> None:
        """Prepare a proposal before it is in force, so that the swap takes no time."""
        try:
            self._candidate = await asyncio.to_thread(self._prepare, statement)
        except Exception as error:  # noqa: BLE001 - told, whatever it is; nothing is in force by it
            self._hooks.rejected(_as_ours(error))

    async def _catch_up(self, newest: Activation) -> None:
        try:
            await self._load(newest)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be decided
            fault = _as_ours(error)
            self._active.refuse(
                "This node cannot load the policy that is in force, and does not decide by an older one. Its "
                "operator finds the cause in its log; try another node, or again later."
            )
            if self._told != fault.message:
                self._told = fault.message
                self._hooks.failed(fault)
            await asyncio.sleep(RETRY_S)
        else:
            self._told = ""

    async def _load(self, newest: Activation) -> None:
        """Decide by what `newest` tells; raise `GatewayError` if that cannot be loaded."""
        candidate = self._candidate
        if candidate is None or candidate.approval.digest != newest.statement:
            candidate = await asyncio.to_thread(self._prepare, newest.statement)
        recorded = await asyncio.to_thread(self._recorded.all)
        if not recorded or recorded[-1] != newest:
            return  # Another has followed meanwhile; it is looked for again at once.
        verify_recorded(candidate, recorded, origin=self._origin, now=self._clock())
        if self._in_force is not None and self._in_force.bundle == newest.bundle:
            self._active.confirm(candidate.standing)
        else:
            engine = self._make_engine(candidate.packed.bundle)
            try:
                await engine.start()
            except BaseException:
                await engine.close()
                raise
            await self._active.install(engine, candidate.standing)
        self._in_force, self._behind_since, self._candidate = newest, None, None
        self._hooks.activated(newest)

    def _prepare(self, statement: str) -> Candidate:
        proposal = self._shelf.find(statement)
        if proposal is None:
            raise ActivationError(
                "The policy store does not hold the bundle that the log says is in force; restore the store."
            )
        return prepare(proposal, self._signers, self._fits)

    def _require_current(self) -> None:
        now = _now()
        if self._read_at is not None and now - self._read_at > STALE_AFTER_S:
            raise NotInForceError("This node cannot tell which policy is in force; try again later.")
        if self._behind_since is not None and now - self._behind_since > STALE_AFTER_S:
            raise NotInForceError(
                "This node has not loaded the policy that is in force yet; try again later."
            )


def _as_ours(error: Exception) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    return NotInForceError(
        f"The policy could not be loaded for an unexpected fault ({type(error).__name__})."
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
