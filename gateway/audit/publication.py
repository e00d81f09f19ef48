"""Publishing: having the log's checkpoints cosigned by witnesses, and keeping what they cosigned.

An entry is committed under a checkpoint of the log alone. A checkpoint is *published* once it is kept for
everybody to read, and *witnessed* once a quorum of the witness policy has cosigned it. Witnesses that do not
answer leave a checkpoint published only: weaker evidence, never a reason to stop. A witness that has seen
another history of this log is such a reason, and raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol, Self

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import (
    LogMismatchError,
    LogUnavailableError,
    WitnessQuorumError,
    WitnessUnavailableError,
)
from gateway.audit.note import NoteSignature, Verifier, parse_note
from gateway.audit.prover import HashReader, TreeHashes
from gateway.audit.witness_policy import Cosignature, WitnessPolicy
from gateway.clock import Clock, system_clock
from gateway.errors import GatewayError

DEFAULT_INTERVAL: Final = timedelta(seconds=10)
DEFAULT_TIMEOUT: Final = timedelta(seconds=5)
DEFAULT_REFRESH: Final = timedelta(minutes=10)


class Grade(StrEnum):
    """How strong the evidence of a published checkpoint is."""

    PUBLISHED = "published"
    """Signed by the log and kept, but not cosigned by a quorum."""
    WITNESSED = "witnessed"
    """Cosigned by a quorum of the witness policy."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A checkpoint as it was published at one time."""

    size: int
    note: str
    """The checkpoint with the log's signature and every cosignature gathered."""
    moment: datetime
    grade: Grade


class Publications(Protocol):
    """Where publications are kept, for ever. Safe from any thread."""

    def record(self, publication: Publication) -> None:
        """Keep a publication, durably; raise `LogUnavailableError` if that cannot be done now."""
        ...

    def latest(self, grade: Grade | None = None) -> Publication | None:
        """Return the newest publication, or the newest of a grade; None if there is none."""
        ...


class KeptPublications(Publications, Protocol):
    """All that was published, as people look through it."""

    def at(self, size: int) -> Publication | None:
        """Return the publication of exactly `size` entries with the best evidence; None if there is none."""
        ...

    def page(self, limit: int, below: int | None = None) -> list[Publication]:
        """Return at most `limit` publications, newest first, of fewer entries than `below`."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class LogReader(HashReader, Protocol):
    """What publishing reads of the log."""

    def size(self) -> int:
        """Return the number of entries."""
        ...

    def checkpoint(self) -> str:
        """Return the latest checkpoint as a signed note."""
        ...


class LogHistory:
    """Our own log, as a witness may ask about it. Its methods read from a store and may block."""

    def __init__(self, reader: LogReader, verifier: Verifier) -> None:
        self._reader = reader
        self.verifier = verifier
        self.origin = verifier.name

    def latest(self) -> tuple[str, Checkpoint]:
        """Return the latest checkpoint, as a note and taken apart, once our own key has verified it."""
        note = self._reader.checkpoint()
        return note, open_checkpoint(note, [self.verifier], origin=self.origin)

    def size(self) -> int:
        """Return the number of entries now."""
        return self._reader.size()

    def root(self, size: int) -> bytes:
        """Return the root of our first `size` entries, 32 bytes."""
        return TreeHashes(self._reader, size).frontier().root()

    def consistency_proof(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that our first `size` entries begin with our first `old_size`."""
        return TreeHashes(self._reader, size).consistency_proof(old_size)


class AskedWitness(Protocol):
    """A witness that can be asked to cosign."""

    @property
    def name(self) -> str:
        """Its name in the witness policy."""
        ...

    async def cosign(
        self, note: str, checkpoint: Checkpoint, history: LogHistory
    ) -> tuple[NoteSignature, ...]:
        """Return its cosignatures over the checkpoint in `note`, verified; at least one.

        Raises `WitnessUnavailableError` if it gives none, and `LogRolledBackError` or `LogForkedError` if it
        has seen another history of the log.
        """
        ...


def _ignore(*_: object) -> None:
    """Take no notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationHooks:
    """Callbacks for metrics and the operators' log; called in the event loop, they must be quick."""

    published: Callable[[Publication], None] = _ignore
    witness_failed: Callable[[str, GatewayError], None] = _ignore
    """A witness's name in the policy, and why it gave no cosignature."""
    failed: Callable[[GatewayError], None] = _ignore
    """A round came to nothing: the log could not be read, or the publication not be kept."""


class Publisher:
    """Publishes the latest checkpoint whenever the log has grown, or its cosignatures grow old."""

    def __init__(
        self,
        history: LogHistory,
        publications: Publications,
        policy: WitnessPolicy,
        witnesses: Sequence[AskedWitness],
        *,
        clock: Clock = system_clock,
        timeout: timedelta = DEFAULT_TIMEOUT,
        refresh: timedelta = DEFAULT_REFRESH,
        hooks: PublicationHooks | None = None,
    ) -> None:
        """Take the log, where to keep publications, and whom to ask, all together within `timeout`."""
        self._history = history
        self._publications = publications
        self._policy = policy
        self._witnesses = tuple(witnesses)
        self._clock = clock
        self._timeout_s = timeout.total_seconds()
        self._refresh = refresh
        self._hooks = hooks or PublicationHooks()

    async def publish(self, *, in_haste: bool = False) -> Publication:
        """Publish the latest checkpoint, unless it is witnessed and fresh already; return its publication.

        In haste, no more witnesses are waited for than a quorum takes: somebody waits for it.

        A round that adds no evidence to what is kept, as in a long outage of witnesses, is not kept.

        Raises `LogRolledBackError` or `LogForkedError` if a witness has seen another history of the log: then
        nothing may be appended any more, and a person must look at it. Raises `LogUnavailableError` if the
        log cannot be read or the publication not be kept.
        """
        note, checkpoint = await asyncio.to_thread(self._history.latest)
        known = await asyncio.to_thread(self._publications.latest)
        if known is not None and self._is_fresh(known, checkpoint):
            return known
        signatures = await self._ask(note, checkpoint, in_haste=in_haste)
        cosigned = note + "".join(signature.line() for signature in signatures)
        publication = Publication(checkpoint.size, cosigned, self._clock(), self._grade(cosigned))
        if known is not None and not _adds_to(known, publication):
            return known
        await asyncio.to_thread(self._publications.record, publication)
        self._hooks.published(publication)
        return publication

    async def run(self, interval: timedelta = DEFAULT_INTERVAL) -> None:
        """Publish every `interval` until cancelled. Outages of witnesses and of the store pass.

        Raises what else `publish` raises: another history of the log, or a head that our key has not signed.
        """
        while True:
            try:
                await self.publish()
            except LogMismatchError:
                raise
            except LogUnavailableError as error:
                self._hooks.failed(error)
            await asyncio.sleep(interval.total_seconds())

    def newest_witnessed(self) -> Publication | None:
        """Return the newest witnessed publication, by whichever process; None if there is none."""
        return self._publications.latest(Grade.WITNESSED)

    def last_witnessed(self) -> tuple[Cosignature, ...]:
        """Return the cosignatures of the newest witnessed publication, for the age of the evidence."""
        latest = self.newest_witnessed()
        return () if latest is None else self._policy.cosignatures(latest.note)

    async def _ask(self, note: str, checkpoint: Checkpoint, *, in_haste: bool) -> list[NoteSignature]:
        """Return what the witnesses gave within the time; report who gave nothing."""
        tasks = {
            witness.name: asyncio.create_task(witness.cosign(note, checkpoint, self._history))
            for witness in self._witnesses
        }
        satisfied = False
        try:
            if tasks and in_haste:
                satisfied = await self._await_quorum(tasks)
            elif tasks:
                await asyncio.wait(tasks.values(), timeout=self._timeout_s)
        finally:
            for task in tasks.values():
                task.cancel()
            outcomes = await asyncio.gather(*tasks.values(), return_exceptions=True)
        if satisfied:
            # Who was not waited for has not failed.
            answered = zip(tasks, outcomes, strict=True)
            return self._signatures(
                {name: found for name, found in answered if not isinstance(found, asyncio.CancelledError)}
            )
        return self._signatures(dict(zip(tasks, outcomes, strict=True)))

    def _signatures(
        self, outcomes: Mapping[str, tuple[NoteSignature, ...] | BaseException]
    ) -> list[NoteSignature]:
        """Return what the witnesses gave; raise what one of them found wrong with the log's history."""
        signatures: list[NoteSignature] = []
        history_error: LogMismatchError | None = None
        for name, outcome in outcomes.items():
            match outcome:
                case tuple():
                    signatures.extend(outcome)
                case asyncio.CancelledError():
                    self._hooks.witness_failed(
                        name, WitnessUnavailableError("The witness did not answer in time.")
                    )
                case LogMismatchError():
                    self._hooks.witness_failed(name, outcome)
                    history_error = history_error or outcome
                case GatewayError():
                    self._hooks.witness_failed(name, outcome)
                case _:
                    raise outcome
        if history_error is not None:
            raise history_error
        return signatures

    async def _await_quorum(self, tasks: Mapping[str, asyncio.Task[tuple[NoteSignature, ...]]]) -> bool:
        """Wait until the witnesses that have cosigned are a quorum, or all have answered, or the time is up.

        Return whether they are a quorum. One that found another history is waited for no longer either.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        pending = set(tasks.values())
        while pending:
            remaining_s = max(0.0, deadline - asyncio.get_running_loop().time())
            done, pending = await asyncio.wait(
                pending, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return False
            given = {name for name, task in tasks.items() if task.done() and task.exception() is None}
            if self._policy.meets_quorum(given):
                return True
        return False

    def _grade(self, cosigned: str) -> Grade:
        try:
            self._policy.verify(cosigned, origin=self._history.origin, log_verifiers=[self._history.verifier])
        except WitnessQuorumError:
            return Grade.PUBLISHED
        return Grade.WITNESSED

    def _is_fresh(self, known: Publication, checkpoint: Checkpoint) -> bool:
        return (
            known.size == checkpoint.size
            and known.grade is Grade.WITNESSED
            and self._clock() - known.moment < self._refresh
        )


def _adds_to(known: Publication, new: Publication) -> bool:
    """Return whether `new` says more than `known`: of more entries, witnessed again, or by more signers."""
    return (
        new.size != known.size
        or new.grade is Grade.WITNESSED
        or len(parse_note(new.note).signatures) > len(parse_note(known.note).signatures)
    )
