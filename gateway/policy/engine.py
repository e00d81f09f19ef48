"""The port to whatever evaluates the rules."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.policy_input import PolicyInput

ENTRY_POINT: Final = "exchange.decision.result"
"""The one document that is asked, under `data`."""


class PolicyEngine(Protocol):
    """Decides exchanges by one bundle. Used on one event loop, between `start` and `close`."""

    @property
    def name(self) -> str:
        """Name and version of what evaluates, such as `regorus 0.13.0`."""

    @property
    def bundle(self) -> Bundle:
        """The bundle that decides."""

    async def start(self) -> None:
        """Make the engine ready; raise `PolicyError` if it cannot decide as this gateway expects."""

    async def decide(self, policy_input: PolicyInput) -> Decision:
        """Return the decision on `policy_input`; raise `PolicyError` if none can be had."""

    async def close(self) -> None:
        """Release what the engine holds. It cannot be started again."""


class Evaluator(Protocol):
    """Evaluates one document of a bundle on raw input; what the start-up probe works on."""

    async def evaluate(self, document: str, encoded_input: bytes) -> bytes:
        """Return the document `data.<document>` on the JSON input `encoded_input`, as JSON.

        Raise `PolicyError`: `POLICY_UNDEFINED` if the document is undefined, else the reason why not.
        """
