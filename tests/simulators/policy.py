"""A policy engine that fails on command, around the real one."""

from __future__ import annotations

import asyncio
import hashlib
from enum import StrEnum, auto
from typing import Any

import msgspec

from gateway.errors import Reason
from gateway.evidence.canonical import encode_canonical
from gateway.model import Decision, Obligation, Treatment
from gateway.policy.bundle import Bundle
from gateway.policy.engine import PolicyEngine
from gateway.policy.errors import PolicyError
from gateway.policy.policy_input import PolicyInput


class PolicyFault(StrEnum):
    """What an engine can do wrong."""

    UNDEFINED = auto()
    FAILS = auto()
    PANICS = auto()
    """Raises what no engine should raise."""
    TIMES_OUT = auto()
    UNAVAILABLE = auto()
    STALE = auto()
    HANGS = auto()
    UNKNOWN_GENERALISATION = auto()
    PSEUDONYM_OF_NO_IDENTIFIER = auto()
    MASK_OF_A_NUMBER = auto()
    NEGATIVE_MASK = auto()
    DROPS_EVERYTHING = auto()


_REASONS = {
    PolicyFault.UNDEFINED: Reason.POLICY_UNDEFINED,
    PolicyFault.FAILS: Reason.POLICY_FAILED,
    PolicyFault.TIMES_OUT: Reason.POLICY_TIMEOUT,
    PolicyFault.UNAVAILABLE: Reason.POLICY_UNAVAILABLE,
    PolicyFault.STALE: Reason.POLICY_STALE,
}

_OBLIGATIONS = {
    PolicyFault.UNKNOWN_GENERALISATION: (
        "registered_on",
        Obligation(Treatment.GENERALISE, {"method": "century"}),
    ),
    PolicyFault.PSEUDONYM_OF_NO_IDENTIFIER: ("name", Obligation(Treatment.PSEUDONYMISE)),
    PolicyFault.MASK_OF_A_NUMBER: ("registered_on", Obligation(Treatment.MASK, {"method": "first:1"})),
    PolicyFault.NEGATIVE_MASK: ("name", Obligation(Treatment.MASK, {"keep_first": -1})),
}


class ScriptedPolicy:
    """Decides as the engine that it holds does, until `fault` is set."""

    def __init__(self, engine: PolicyEngine) -> None:
        self.fault: PolicyFault | None = None
        self.decided = 0
        self.duties: dict[str, dict[str, Any]] | None = None
        """What is laid on every exchange allowed, in place of the engine's duties, unless None."""
        self.obligations: dict[str, Obligation] = {}
        """What is obliged of fields, in place of what the engine says of them."""
        self._engine = engine

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def bundle(self) -> Bundle:
        return self._engine.bundle

    async def start(self) -> None:
        await self._engine.start()

    async def close(self) -> None:
        await self._engine.close()

    async def decide(self, policy_input: PolicyInput) -> Decision:
        self.decided += 1
        fault = self.fault
        if fault in _REASONS:
            raise PolicyError("The engine was told to fail.", reason=_REASONS[fault])
        if fault is PolicyFault.PANICS:
            raise ZeroDivisionError("secret of the engine: 110101199003070134")
        if fault is PolicyFault.HANGS:
            await asyncio.Event().wait()
        decision = await self._engine.decide(policy_input)
        if decision.allow and (self.duties is not None or self.obligations):
            duties = decision.duties if self.duties is None else self.duties
            obligations = {**decision.obligations, **self.obligations}
            told = encode_canonical([decision.id, duties, obligations])
            decision = msgspec.structs.replace(
                decision,
                id=f"d-{hashlib.sha256(told).hexdigest()[:32]}",
                duties=duties,
                obligations=obligations,
            )
        if fault is None:
            return decision
        if fault is PolicyFault.DROPS_EVERYTHING:
            dropped = {name: Obligation(Treatment.DROP) for name in decision.obligations}
            return msgspec.structs.replace(decision, id=f"d-{fault}", obligations=dropped)
        name, obligation = _OBLIGATIONS[fault]
        obligations = {**decision.obligations, name: obligation}
        return msgspec.structs.replace(decision, id=f"d-{fault}", obligations=obligations)
