"""Preparing a bundle before it decides anything: signatures, sources, probe, golden cases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.activation.errors import ActivationError
from gateway.activation.history import Activation, verify_bundle, verify_succession
from gateway.activation.shelf import Proposal
from gateway.activation.signers import Approval, Signers
from gateway.activation.statement import read_envelope
from gateway.policy.bundle import Bundle
from gateway.policy.bundle_file import PackedBundle, unpack_bundle
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.golden import run_cases

Fits = Callable[[Bundle], None]
"""Raises `ConfigError` if this deployment cannot serve by a bundle: its catalogue, its witnesses."""


@dataclass(frozen=True, slots=True)
class Standing:
    """From when until when a bundle may decide."""

    starts: datetime
    ends: datetime

    @classmethod
    def of(cls, approval: Approval, max_age: timedelta) -> Standing:
        """Return the span of `approval`: it ends by itself, or because nobody has confirmed it since."""
        statement = approval.statement
        return cls(statement.starts, min(statement.ends, statement.starts + max_age))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bundle that was approved, and that could decide."""

    approval: Approval
    packed: PackedBundle
    standing: Standing


def prepare(proposal: Proposal, signers: Signers, fits: Fits) -> Candidate:
    """Return the candidate in `proposal`; blocks for some tenths of a second.

    Raises `ActivationError` or `SignatureError` if it is not approved as it must be, `BundleError` if the
    bundle is wrong, `PolicyError` if no engine can decide by it, and what `fits` raises.
    """
    approval = signers.verify(read_envelope(proposal.envelope))
    if approval.digest != proposal.statement:
        raise ActivationError("The policy store gives another approval than the one that was asked for.")
    packed = unpack_bundle(proposal.file)
    verify_bundle(approval.statement, packed)
    fits(packed.bundle)
    asyncio.run(try_out(packed))
    return Candidate(approval, packed, Standing.of(approval, signers.max_age))


async def try_out(packed: PackedBundle) -> None:
    """Prove the embedded engine on the bundle, and have it answer every golden case.

    Raises `PolicyError`, and `ActivationError` if a case is answered differently.
    """
    engine = EmbeddedEngine(packed.bundle)
    try:
        await engine.start()
        mismatches = await run_cases(engine, packed.cases)
    finally:
        await engine.close()
    if mismatches:
        raise ActivationError(
            f"{len(mismatches)} of the bundle's {len(packed.cases)} golden cases are answered differently "
            f"than they say, the first of them '{mismatches[0].case.title}'.",
            mismatches=len(mismatches),
        )


def verify_recorded(candidate: Candidate, recorded: list[Activation], *, origin: str, now: datetime) -> None:
    """Raise `ActivationError` unless the newest of `recorded` is this candidate's, and may follow the rest.

    Who can append to the log cannot put into force what nobody has signed for that place in its history.
    """
    *before, newest = recorded
    statement = candidate.approval.statement
    told = (newest.statement, newest.bundle, newest.revision, newest.action)
    if told != (candidate.approval.digest, statement.bundle, statement.revision, statement.action.value):
        raise ActivationError(f"{newest.entry} of the log tells of another activation than was approved.")
    # Whether it has ended since is asked with every decision, and must not keep a start from succeeding.
    then = min(max(now, statement.starts), statement.ends - timedelta(microseconds=1))
    verify_succession(candidate.approval, before, origin=origin, now=then)
