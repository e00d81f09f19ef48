"""The policy of a deployment: which bundle is in force, and putting another into force.

Without `[policy.activation]` that is the policy directory, as the operator has put it there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.activation.candidate import Candidate, prepare, verify_recorded
from gateway.activation.errors import ActivationError, NotInForceError
from gateway.activation.fitting import verify_fits
from gateway.activation.history import (
    Activation,
    RecordedActivations,
    describe_approval,
    verify_succession,
)
from gateway.activation.shelf import Proposal, Shelf
from gateway.activation.shelves import open_shelf
from gateway.activation.signers import Approval, Signers
from gateway.activation.statement import read_envelope
from gateway.audit.errors import OnceTakenError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.store import Once
from gateway.audit.stores import open_reader
from gateway.clock import Clock, system_clock
from gateway.config import ActivationConfig, GatewayConfig
from gateway.deployment.changes import record_change
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind
from gateway.policy.bundle import Bundle
from gateway.policy.bundle_file import PackedBundle, open_bundle, unpack_bundle
from gateway.recorded.entries import recorded_entries

REHEARSAL_S: Final = 1.0
"""How long a proposal lies before it is in force, so that every process has it ready for the moment."""

_CLAIM_HELD: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class PolicyPlace:
    """What is known of a deployment's activations: the log's entries, and what lies on the shelf."""

    config: GatewayConfig
    activation: ActivationConfig
    recorded: RecordedActivations
    shelf: Shelf

    @property
    def signers(self) -> Signers:
        """Who may sign."""
        return Signers.of(self.activation)

    def verified(self, clock: Clock = system_clock) -> Candidate:
        """Return what is in force, verified as a gateway does at its start; see `prepare` for what it raises.

        Raises `NotInForceError` if nothing ever was.
        """
        recorded = self.recorded.all()
        if not recorded:
            raise NotInForceError("No policy was ever activated in this deployment.")
        proposal = self.shelf.find(recorded[-1].statement)
        if proposal is None:
            raise ActivationError(
                "The policy store does not hold the bundle that the log says is in force; restore the store."
            )
        candidate = prepare(proposal, self.signers, lambda _: None)
        verify_recorded(candidate, recorded, origin=self.config.log.origin, now=clock())
        return candidate


@contextmanager
def policy_place(config: GatewayConfig) -> Iterator[PolicyPlace]:
    """Open what is known of the activations; raise `ConfigError` if the deployment has none."""
    activation = config.policy.activation
    if activation is None:
        raise ConfigError(
            "This deployment uses the policy directory as it is: the configuration has no section "
            "[policy.activation] that names authors and approvers."
        )
    verifier = Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)
    with ExitStack() as opened:
        reader = opened.enter_context(open_reader(config.log.database))
        entries = recorded_entries(reader, verifier, config.log.previous, opened)
        shelf = opened.enter_context(closing(open_shelf(config.log.database, activation.database)))
        yield PolicyPlace(config, activation, RecordedActivations(entries), shelf)


def bundle_in_force(config: GatewayConfig) -> Bundle:
    """Return the bundle that a gateway with `config` would decide by if it were started now.

    Raises `BundleError`, and what `PolicyPlace.verified` raises.
    """
    if config.policy.activation is None:
        return open_bundle(config.policy.directory)
    with policy_place(config) as place:
        return place.verified().packed.bundle


def bundle_by_digest(config: GatewayConfig, digest: str) -> Bundle | None:
    """Return the bundle of this digest, as far as it is kept; None if it is not. For replaying decisions.

    Every bundle that was activated is kept; without activation only the directory's is there. Raises
    `BundleError` if what is kept is not what it was.
    """
    if config.policy.activation is None:
        bundle = open_bundle(config.policy.directory)
        return bundle if bundle.digest == digest else None
    with policy_place(config) as place:
        content = place.shelf.file_of(digest)
    if content is None:
        return None
    bundle = unpack_bundle(content).bundle
    if bundle.digest != digest:
        raise ActivationError("The policy store gives another bundle than the one that was asked for.")
    return bundle


def propose(
    config: GatewayConfig, envelope: bytes, packed: PackedBundle, clock: Clock = system_clock
) -> Approval:
    """Return the approval in `envelope` if it could be put into force now, by everything that is known.

    Raises `ActivationError`, `SignatureError`, `PolicyError` and `ConfigError`; nothing is written.
    """
    with policy_place(config) as place:
        approval = place.signers.verify(read_envelope(envelope))
        verify_succession(approval, place.recorded.all(), origin=config.log.origin, now=clock())
        proposal = Proposal(0, approval.digest, envelope, packed.content)
        prepare(proposal, place.signers, lambda bundle: verify_fits(config, bundle))
    return approval


def activate(
    config: GatewayConfig,
    envelope: bytes,
    packed: PackedBundle,
    *,
    clock: Clock = system_clock,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[Approval, int]:
    """Put `packed` into force, as `envelope` says; return the approval and the index of its entry.

    The bundle is laid down first, so that running processes prepare it; it is in force with its entry in the
    log, and not before. Of two activations at the same time one is refused. Raises what `propose` raises,
    `ShelfError` and `LogUnavailableError`; then nothing is in force that was not before.
    """
    approval = propose(config, envelope, packed, clock)
    with policy_place(config) as place:
        before = place.recorded.newest()
        place.shelf.put(approval.digest, envelope, packed.bundle.digest, packed.file_digest, packed.content)
        wait(REHEARSAL_S)
        verify_succession(approval, place.recorded.all(), origin=config.log.origin, now=clock())
    try:
        index = record_change(
            config,
            EntryKind.POLICY_ACTIVATED,
            f"policies/{approval.statement.revision}",
            describe_approval(approval),
            bundle=packed.bundle.digest,
            once=Once(_claim(before), clock() + _CLAIM_HELD),
            clock=clock,
        )
    except OnceTakenError as error:
        raise ActivationError(
            "Somebody else has activated a policy at the same time; look at `gateway policy status`."
        ) from error
    return approval, index


def _claim(before: Activation | None) -> bytes:
    """Return what two activations that follow on the same one both claim."""
    statement = before.statement if before else ""
    return hashlib.sha256(b"sluicegate-policy-activation\x00" + statement.encode()).digest()
