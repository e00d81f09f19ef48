"""Appending batches to a store: what a writer does with what waits, whoever it hears it from.

Knows how the log fares, and answers each entry of a batch with its place or with an error of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.committed import Committed
from gateway.audit.errors import LogUnavailableError, OnceTakenError
from gateway.audit.guards import Admission, Guards, Unguarded
from gateway.audit.note import Ed25519Signer, Ed25519Verifier
from gateway.audit.store import Appended, AuditStore, LogIdentity, Once, PendingEntry
from gateway.clock import Clock, system_clock
from gateway.errors import GatewayError
from gateway.model.entry import Entry

__all__ = ["BATCH_LIMIT", "Appender", "Log", "LogHooks", "Outcome"]

BATCH_LIMIT: Final = 512
"""Entries of one transaction: beyond it the next begins."""

FIRST_PROBE_S: Final = 0.05
MAX_PROBE_S: Final = 1.0

_log: Final = structlog.get_logger()

Outcome = Committed | GatewayError
"""What becomes of one entry: its place in the log, or why it has none."""


class Log(Protocol):
    """An audit log to append to, as the use cases see it."""

    @property
    def verifier(self) -> Ed25519Verifier:
        """The key that verifies the log's checkpoints."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        ...

    @property
    def depth(self) -> int:
        """How many entries wait."""
        ...

    def append(self, entry: Entry, once: Once | None = None) -> asyncio.Future[Committed]:
        """Send `entry` on its way; what is returned is done once it is durable, under a signed checkpoint.

        When this or the future raises, nothing may be released on its account. A caller that is
        cancelled while it waits leaves its entry in the log. Raises `LogUnavailableError`,
        `LogOverloadedError`, `OnceTakenError` (then there is no entry) and what `prepare_entry` raises.
        """
        ...


def _ignore(*_: object) -> None:
    """Take no notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHooks:
    """Callbacks for metrics and health. They must be quick, and may come from any thread."""

    committed: Callable[[int, float], None] = _ignore
    """Entries of a batch, and the seconds its transaction took."""
    failed: Callable[[Exception], None] = _ignore
    """Why a batch, a probe or the housekeeping failed."""
    health_changed: Callable[[bool], None] = _ignore
    """Whether the log can append; called when that changes, and not for the healthy start."""


class Appender:
    """Appends to one store, from one thread at a time.

    Opening verifies an existing log against `origin` and the signer's key and raises
    `LogMismatchError`, `LogUnavailableError` or `ConfigError` (see `AuditStore.open`); a new one is
    made.

    While the log cannot append, every append fails with `LogUnavailableError`, and the log is tried
    again with each append. Whoever drives it calls `probe` every `probe_s` seconds meanwhile.
    """

    def __init__(
        self,
        store: AuditStore,
        signer: Ed25519Signer,
        *,
        origin: str,
        clock: Clock = system_clock,
        hooks: LogHooks | None = None,
        guards: Guards | None = None,
    ) -> None:
        self.healthy = True
        self.verifier = signer.verifier
        self.probe_s = FIRST_PROBE_S
        """Seconds until the next probe is due, while the log is not healthy."""
        self._origin = origin
        self._store = store
        self._signer = signer
        self._clock = clock
        self._hooks = hooks or LogHooks()
        self._guards = guards or Unguarded()
        store.open(LogIdentity(origin, signer.verifier), self.sign)

    def append(self, batch: Sequence[PendingEntry]) -> list[Outcome]:
        """Append a batch in one transaction; return what became of each entry, in their order."""
        started = time.perf_counter()
        admission = Admission(batch)
        appended: Appended | None = None

        def append() -> None:
            nonlocal admission, appended
            now = self._clock()
            admission = self._guards.admit(batch, now)
            appended = self._store.append((*admission.own, *admission.admitted), self.sign, now)
            self._guards.committed(admission)

        fault = self._attempt(append)
        if appended is None:
            assert fault is not None
            return [_refusal(fault) for _ in batch]
        entries = (*admission.own, *admission.admitted)
        _tell(self._hooks.committed, len(entries) - len(appended.refused), time.perf_counter() - started)
        outcomes = iter(_outcomes(entries, appended)[len(admission.own) :])
        return [
            admission.refused[at] if at in admission.refused else next(outcomes) for at in range(len(batch))
        ]

    def probe(self) -> None:
        """Try whether the log can append again."""

        def probe() -> None:
            self._guards.check(self._clock())
            self._store.probe()

        self._attempt(probe)
        self.probe_s = FIRST_PROBE_S if self.healthy else min(2 * self.probe_s, MAX_PROBE_S)

    def maintain(self) -> None:
        """Do the store's housekeeping; called between batches."""
        if self.healthy:
            self._attempt(self._store.maintain)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def sign(self, size: int, root: bytes) -> str:
        """Return the signed checkpoint of a tree."""
        return sign_checkpoint(Checkpoint(self._origin, size, root), self._signer)

    def _attempt(self, action: Callable[[], None]) -> Exception | None:
        """Run `action` of the store, note how the log fares, and return what went wrong, if anything."""
        fault: Exception | None = None
        try:
            action()
        except Exception as error:  # noqa: BLE001 -- a writer outlives every fault, and all who wait hear of it
            fault = error
            _tell(self._hooks.failed, error)
        healthy = fault is None
        if healthy != self.healthy:
            self.healthy = healthy
            self.probe_s = FIRST_PROBE_S
            _tell(self._hooks.health_changed, healthy)
        return fault


def _tell(hook: Callable[..., None], *what: object) -> None:
    """Call a hook. Its fault is reported, but must not end the writer and leave its callers waiting."""
    try:
        hook(*what)
    except Exception:  # noqa: BLE001 - a metric that fails must not end the log
        _log.exception("hook.failed")


def _refusal(fault: Exception) -> GatewayError:
    """Return an error for one of those who waited; each gets its own, as each will be raised."""
    if isinstance(fault, LogUnavailableError):
        refusal: GatewayError = type(fault)(fault.message)
    else:
        refusal = LogUnavailableError("The audit log failed in a way it should not; see the gateway's log.")
    refusal.__cause__ = fault
    return refusal


def _outcomes(batch: Sequence[PendingEntry], appended: Appended) -> list[Outcome]:
    outcomes: list[Outcome] = []
    done = appended.batch
    offset = 0
    for at in range(len(batch)):
        if at in appended.refused:
            outcomes.append(OnceTakenError("This was seen before; sign a new query with a fresh nonce."))
            continue
        assert done is not None
        item, index = appended.entries[offset], done.first + offset
        outcomes.append(
            Committed(
                index, item.data, item.leaf_hash, done.frontier.size, appended.note, done, item.sequence
            )
        )
        offset += 1
    return outcomes
