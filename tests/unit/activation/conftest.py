"""Shared by the tests of activation: two people, and a history of bundles that they have put into force."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.activation.history import Activation, describe_approval
from gateway.activation.signers import Approval, Signer, Signers
from gateway.activation.statement import read_envelope
from gateway.policy.bundle_file import PackedBundle
from tests.simulators.activation import People, packed_policy, signed, state

POLICIES = Path(__file__).parents[3] / "policies"
ORIGIN = "audit.example.org/log/2026"


@pytest.fixture(scope="session")
def people() -> People:
    return People.make()


@pytest.fixture(scope="session")
def signers(people: People) -> Signers:
    approvers = (("wang", people.wang), ("zhao", people.zhao), ("li", people.li_approving))
    return Signers(
        authors={people.li.key_id: Signer("li", people.li.verify_key)},
        approvers={key.key_id: Signer(person, key.verify_key) for person, key in approvers},
        threshold=2,
        max_age=timedelta(days=90),
    )


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, PackedBundle]:
    """Bundle files by revision."""
    directory = tmp_path_factory.mktemp("bundles")
    return {revision: packed_policy(POLICIES, directory, revision) for revision in (1, 2, 3)}


@pytest.fixture(scope="session")
def approve(people: People, signers: Signers):
    """Return a function that has Li and Wang sign a statement, and gives the approval."""

    def approve(packed: PackedBundle, *rest, **named) -> Approval:
        statement = state(packed, named.pop("origin", ORIGIN), *rest, **named)
        return signers.verify(read_envelope(signed(statement, people.li, people.wang)))

    return approve


def recorded(approval: Approval, entry: str = "entries/0") -> Activation:
    """Return what the log tells of an approval once it is in force."""
    detail = describe_approval(approval)
    return Activation(
        entry=entry,
        time=approval.statement.not_before,
        bundle=approval.statement.bundle,
        **{**detail, "revision": approval.statement.revision},
    )
