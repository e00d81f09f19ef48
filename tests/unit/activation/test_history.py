"""Which bundle may follow on which. Each attack has its control."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from gateway.activation.candidate import Candidate, Standing, verify_recorded
from gateway.activation.errors import ActivationError
from gateway.activation.history import Activation, describe_approval, verify_bundle, verify_succession
from gateway.activation.statement import Action
from gateway.clock import system_clock
from gateway.model import ENTRY_VERSION, Entry, EntryKind
from gateway.policy.bundle_file import unpack_bundle
from gateway.recorded.entries import RecordedEntry
from tests.unit.activation.conftest import ORIGIN, recorded


@pytest.fixture
def past(approve, bundles):
    """Revision 1, then revision 2."""
    first = approve(bundles[1])
    second = approve(bundles[2], bundles[1].bundle.digest)
    return [recorded(first, "entries/0"), recorded(second, "entries/5")]


def verify(approval, before, *, origin=ORIGIN, now=None):
    verify_succession(approval, before, origin=origin, now=now or system_clock())


def test_a_higher_revision_follows(approve, bundles, past):
    verify(approve(bundles[1]), [])
    verify(approve(bundles[2], bundles[1].bundle.digest), past[:1])
    verify(approve(bundles[3], bundles[2].bundle.digest), past)


def test_an_old_revision_does_not_follow_but_as_a_rollback(approve, bundles, past):
    current = bundles[2].bundle.digest
    with pytest.raises(ActivationError, match="not above revision 2"):
        verify(approve(bundles[1], current), past)
    verify(approve(bundles[1], current, Action.ROLLBACK), past)


def test_what_was_rolled_back_does_not_come_back_by_its_old_approval(approve, bundles, past):
    back = approve(bundles[1], bundles[2].bundle.digest, Action.ROLLBACK)
    now_back = [*past, recorded(back, "entries/9")]
    again = approve(bundles[2], bundles[1].bundle.digest)
    with pytest.raises(ActivationError, match="not above revision 2"):
        verify(again, now_back)
    verify(approve(bundles[2], bundles[1].bundle.digest, Action.ROLLBACK), now_back)


def test_an_approval_is_used_once(approve, bundles):
    approval = approve(bundles[1])
    verify(approval, [])
    with pytest.raises(ActivationError, match="used before"):
        verify(approval, [recorded(approval)])


def test_an_approval_knows_what_it_replaces(approve, bundles, past):
    with pytest.raises(ActivationError, match="Another bundle is in force"):
        verify(approve(bundles[3], bundles[1].bundle.digest), past)
    with pytest.raises(ActivationError, match="Another bundle is in force"):
        verify(approve(bundles[3]), past)


def test_a_rollback_goes_only_to_what_was_in_force(approve, bundles, past):
    current = bundles[2].bundle.digest
    with pytest.raises(ActivationError, match="never was"):
        verify(approve(bundles[3], current, Action.ROLLBACK), past)
    with pytest.raises(ActivationError, match="nothing to roll back"):
        verify(approve(bundles[2], current, Action.ROLLBACK), past)


def test_a_confirmation_is_of_what_is_in_force(approve, bundles, past):
    current = bundles[2].bundle.digest
    verify(approve(bundles[2], current, Action.CONFIRM), past)
    with pytest.raises(ActivationError, match="another"):
        verify(approve(bundles[1], current, Action.CONFIRM), past)


def test_an_approval_holds_for_its_time(approve, bundles):
    now = system_clock()
    approval = approve(bundles[1], now=now, days=1)
    with pytest.raises(ActivationError, match="does not hold before"):
        verify(approval, [], now=now - timedelta(hours=1))
    with pytest.raises(ActivationError, match="has ended"):
        verify(approval, [], now=now + timedelta(days=2))
    verify(approval, [], now=now)


def test_an_approval_is_for_one_deployment(approve, bundles):
    approval = approve(bundles[1])
    with pytest.raises(ActivationError, match="another deployment"):
        verify(approval, [], origin="audit.example.net/log/2026")


def test_an_approval_is_for_one_file(approve, bundles):
    statement = approve(bundles[1]).statement
    verify_bundle(statement, bundles[1])
    with pytest.raises(ActivationError, match="another bundle file"):
        verify_bundle(statement, bundles[2])
    other_revision = msgspec.structs.replace(statement, revision=7)
    with pytest.raises(ActivationError, match="another revision"):
        verify_bundle(other_revision, bundles[1])


def candidate(approval, packed):
    return Candidate(approval, packed, Standing.of(approval, timedelta(days=90)))


def test_an_entry_that_tells_of_something_else_than_was_signed_puts_nothing_into_force(
    approve, bundles, past
):
    now = system_clock()
    third = approve(bundles[3], bundles[2].bundle.digest)
    held = candidate(third, unpack_bundle(bundles[3].content))
    verify_recorded(held, [*past, recorded(third, "entries/9")], origin=ORIGIN, now=now)
    with pytest.raises(ActivationError, match="another activation"):
        verify_recorded(held, past, origin=ORIGIN, now=now)


def test_who_can_append_to_the_log_cannot_bring_an_old_approval_back(approve, bundles, past):
    """The operator holds the log's key, and an approval that was good once."""
    first = approve(bundles[1])
    replayed = [recorded(first, "entries/0"), past[1], recorded(first, "entries/9")]
    with pytest.raises(ActivationError, match="used before"):
        verify_recorded(candidate(first, bundles[1]), replayed, origin=ORIGIN, now=system_clock())


def test_what_has_ended_is_still_what_is_in_force(approve, bundles):
    approval = approve(bundles[1], days=1)
    later = system_clock() + timedelta(days=2)
    verify_recorded(candidate(approval, bundles[1]), [recorded(approval)], origin=ORIGIN, now=later)


def test_an_entry_tells_an_activation_in_full(approve, bundles):
    approval = approve(bundles[1])
    entry = Entry(
        v=ENTRY_VERSION,
        kind=EntryKind.POLICY_ACTIVATED,
        time=approval.statement.not_before,
        bundle=approval.statement.bundle,
        detail={name: value for name, value in describe_approval(approval).items() if value},
    )
    assert Activation.of(RecordedEntry(0, entry)) == recorded(approval)
    for name in ("statement", "revision", "file"):
        detail = {key: value for key, value in entry.detail.items() if key != name}
        with pytest.raises(ActivationError):
            Activation.of(RecordedEntry(0, msgspec.structs.replace(entry, detail=detail)))
