"""The embedded engine: Rego in this process, through `regorus`."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

# The engine makes and drops errors while it evaluates; with backtraces on, a decision takes twice as long.
os.environ.setdefault("RUST_LIB_BACKTRACE", "0")

import msgspec
import regorus

from gateway.errors import Reason
from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.conformance import verify_conformance
from gateway.policy.engine import ENTRY_POINT
from gateway.policy.errors import PolicyError
from gateway.policy.policy_input import PolicyInput, decision_id, encode_input
from gateway.policy.probe import PROBE_MODULE, PROBE_PATH
from gateway.policy.result import decode_result
from gateway.policy.syntax import locate_fault

_UNDEFINED: Final = '"<undefined>"'
_DISTRIBUTION: Final = "gordon-to-regorus"


@dataclass(frozen=True, slots=True)
class ReachedLines:
    """The lines of one module that can be evaluated, from 1."""

    reached: frozenset[int]
    missed: frozenset[int]


class EmbeddedEngine:
    """Decides in this process. Lives on the thread that calls `start`: use and close it there.

    `regorus` objects must be made, used and freed on one thread; elsewhere they panic or leak.
    An evaluation cannot be stopped half-way; what it may cost is bounded by the dialect, which has no
    unbounded loop, and by `MAX_INPUT_BYTES`.
    """

    def __init__(
        self, bundle: Bundle, *, traced: bool = False, beside: Mapping[str, str] | None = None
    ) -> None:
        """Take the bundle; a `traced` engine also notes which lines its evaluations reach.

        `beside` are modules of packages that the bundle's rules do not know (path to text), which may be
        evaluated too.
        """
        self.bundle = bundle
        self._beside = dict(beside or {})
        self._traced = traced
        self.name = f"regorus {version(_DISTRIBUTION)}"
        self._engine: Any = None
        self._thread: int | None = None

    async def start(self) -> None:
        """Load the bundle and prove the engine; raise `PolicyError` if either fails."""
        self._engine, self._thread = self._load(), threading.get_ident()
        try:
            await verify_conformance(self, self.bundle)
        except BaseException:
            # Here and now: whoever holds the error may drop it, and what it holds, on another thread.
            self._engine = None
            raise

    def _load(self) -> Any:
        engine = regorus.Engine()
        try:
            for path, text in {**self.bundle.modules, **self._beside, PROBE_PATH: PROBE_MODULE}.items():
                engine.add_policy(path, text)
            engine.add_data_json(msgspec.json.encode(dict(self.bundle.data)).decode())
            engine.set_enable_coverage(self._traced)
        except BaseException as fault:
            del engine
            _raise_unless_of_engine(fault)
            raise PolicyError("The embedded policy engine cannot load the bundle.") from fault
        return engine

    async def decide(self, policy_input: PolicyInput) -> Decision:
        """Return the decision on `policy_input`; raise `PolicyError` if none can be had."""
        return self.judge(encode_input(policy_input))

    def judge(self, encoded_input: bytes) -> Decision:
        """Return the decision on canonical input as it was once recorded; raise `PolicyError`.

        Its facts need not be those that a gateway of this release would hand over.
        """
        result = self.evaluate_now(ENTRY_POINT, encoded_input)
        return decode_result(result, self.bundle, decision_id(self.bundle.digest, encoded_input), self.name)

    async def evaluate(self, document: str, encoded_input: bytes) -> bytes:
        """Return `data.<document>` on the JSON input `encoded_input`, as JSON; raise `PolicyError`."""
        return self.evaluate_now(document, encoded_input)

    def reached_lines(self) -> dict[str, ReachedLines]:
        """Return which lines evaluations have reached since the last call, by path of the module."""
        self._require_thread()
        files: Any = msgspec.json.decode(self._engine.get_coverage_report_as_json())["files"]
        self._engine.clear_coverage_data()
        return {
            file["path"]: ReachedLines(frozenset(file["covered"]), frozenset(file["not_covered"]))
            for file in files
        }

    async def close(self) -> None:
        """Free the engine, on the thread that started it."""
        if self._engine is not None:
            self._require_thread()
            self._engine = None

    def evaluate_now(self, document: str, encoded_input: bytes) -> bytes:
        """Do what `evaluate` does, without an event loop."""
        self._require_thread()
        try:
            self._engine.set_input_json(encoded_input.decode())
            answer: str = self._engine.eval_rule_as_json(f"data.{document}")
        except BaseException as fault:
            # A panic of the engine is a BaseException; it must deny this exchange and not stop the server.
            _raise_unless_of_engine(fault)
            raise PolicyError(
                f"A rule of the policy failed ({locate_fault(fault)}). Report this to the operator."
            ) from fault
        if answer == _UNDEFINED:
            raise PolicyError(
                "The policy gives no answer on this exchange. Report this to the operator.",
                reason=Reason.POLICY_UNDEFINED,
            )
        return answer.encode()

    def _require_thread(self) -> None:
        if self._engine is None:
            raise PolicyError("The embedded policy engine is not started.", reason=Reason.POLICY_UNAVAILABLE)
        if threading.get_ident() != self._thread:
            raise PolicyError("The embedded policy engine was called on a foreign thread.")


def _raise_unless_of_engine(fault: BaseException) -> None:
    """Let pass what no evaluation raises: cancellation, interrupts, exit."""
    if not isinstance(fault, Exception) and type(fault).__name__ != "PanicException":
        raise fault
