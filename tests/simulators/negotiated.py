"""Terms, parties with keys, and what every contract store must do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from gateway.contracts import negotiation
from gateway.contracts.document import read_terms
from gateway.contracts.life_cycle import OPERATOR
from gateway.contracts.signing import SignedTerms, open_signed, sign_terms
from gateway.contracts.store import ContractStore, unrecorded
from gateway.contracts.version import Change, Version
from gateway.errors import GatewayError, Reason
from gateway.evidence.keys import SigningKey
from gateway.model import ContractState, Terms

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

COMPANY = "amber-trading"
AGENCY = "registry"
BANK = "harbour-bank"

KEYS = {member: SigningKey(bytes([at]) * 32) for at, member in enumerate((COMPANY, AGENCY, BANK), start=1)}

TIERS = ("public", "limited", "government", "restricted")

DESCRIPTION: dict[str, Any] = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "customers",
    "name": "Customers",
    "version": "1.0.0",
    "status": "active",
    "customProperties": [
        {"property": "tier", "value": "limited"},
        {"property": "retention", "value": "since:5"},
    ],
    "schema": [
        {
            "name": "customer",
            "properties": [
                {
                    "name": "uscc",
                    "logicalType": "string",
                    "required": True,
                    "classification": "limited",
                    "customProperties": [
                        {"property": "identifierKind", "value": "uscc"},
                        {"property": "lookup", "value": True},
                    ],
                },
                {
                    "name": "name",
                    "logicalType": "string",
                    "classification": "limited",
                    "customProperties": [{"property": "mask", "value": "first:2,last:1"}],
                },
                {
                    "name": "capital",
                    "logicalType": "integer",
                    "classification": "limited",
                    "customProperties": [{"property": "generalise", "value": "band:1000"}],
                },
                {"name": "since", "logicalType": "date", "classification": "limited"},
            ],
        }
    ],
}


def content_of(**changes: Any) -> dict[str, Any]:
    """Return terms as somebody writes them; a change to None leaves a member out."""
    content: dict[str, Any] = {
        "v": 1,
        "contract": "amber-customers",
        "version": 1,
        "title": "Customers of Amber Trading",
        "parties": [
            {"member": COMPANY, "role": "contributor"},
            {"member": AGENCY, "role": "recipient"},
        ],
        "datasets": [
            {
                "name": f"members/{COMPANY}/datasets/customers",
                "held": "vault",
                "description": DESCRIPTION,
                "fields": {"name": {"treatment": "mask"}},
                "key": ["uscc"],
            }
        ],
        "purposes": ["credit-check"],
        "recipients": {"members": [AGENCY], "classes": ["bank"]},
        "valid_from": "2026-11-01T00:00:00Z",
        "valid_until": "2027-11-01T00:00:00Z",
        "quotas": [{"records": 1000, "per": "month", "each": "consumer"}],
        **changes,
    }
    return {name: value for name, value in content.items() if value is not None}


def terms_of(**changes: Any) -> Terms:
    return read_terms(content_of(**changes))


def following(version: Version, /, **changes: Any) -> Terms:
    """Return the terms of a version after `version`."""
    number = version.terms.version + 1
    return msgspec.structs.replace(
        read_terms({**msgspec.to_builtins(version.terms), "predecessor": version.id, "version": number}),
        **changes,
    )


def signed(terms: Terms, member: str) -> SignedTerms:
    key = KEYS[member]
    return open_signed(sign_terms(terms, key), member, {key.key_id: key.verify_key})


def reason_of(call: Callable[..., Any], *arguments: Any) -> Reason:
    with pytest.raises(GatewayError) as raised:
        call(*arguments)
    return raised.value.reason


def propose(store: ContractStore, terms: Terms, member: str = COMPANY, record: Any = unrecorded) -> Version:
    handed_in = signed(terms, member)
    changes = store.change(
        terms.contract, lambda history: negotiation.propose(history, handed_in, NOW), record
    )
    return changes[0].version


def sign(store: ContractStore, terms: Terms, member: str = AGENCY, record: Any = unrecorded) -> Version:
    handed_in = signed(terms, member)
    changes = store.change(terms.contract, lambda history: negotiation.sign(history, handed_in, NOW), record)
    return changes[0].version


def suspend(
    store: ContractStore, version: Version, actor: str = COMPANY, record: Any = unrecorded
) -> Version:
    terms = version.terms
    changes = store.change(
        terms.contract,
        lambda history: negotiation.suspend(history, terms.version, actor, "a doubt", NOW),
        record,
    )
    return changes[0].version


def active(store: ContractStore, **changes: Any) -> Version:
    """Put a contract that both have signed into `store`."""
    terms = terms_of(**changes)
    propose(store, terms)
    return sign(store, terms)


class ContractStoreBehaviour:
    """What every contract store does. A subclass has the fixtures `store` and `edit` (behind its back)."""

    def test_a_contract_is_read_back_as_it_was_signed(self, store: ContractStore) -> None:
        proposed = propose(store, terms_of())
        assert store.versions()[1] == [proposed]
        active_version = sign(store, terms_of())
        [found] = store.versions()[1]
        assert found == active_version
        assert found.standing.state is ContractState.ACTIVE
        assert found.standing.signed_by == (COMPANY, AGENCY)

    def test_every_change_raises_the_revision(self, store: ContractStore) -> None:
        seen = [store.revision()]
        version = active(store)
        seen.append(store.revision())
        suspend(store, version)
        seen.append(store.revision())
        assert seen == sorted(set(seen))
        assert store.versions()[0] == seen[-1]

    def test_contracts_are_kept_apart_and_in_order(self, store: ContractStore) -> None:
        active(store, contract="second")
        first = active(store, contract="first")
        propose(store, following(first, title="Another title"))
        names = [version.name for version in store.versions()[1]]
        assert names == [
            "contracts/first/versions/1",
            "contracts/first/versions/2",
            "contracts/second/versions/1",
        ]

    def test_what_cannot_be_recorded_is_not_done(self, store: ContractStore) -> None:
        """Control: with a log that takes it, the same is done."""

        def refuse(_: Change) -> None:
            raise GatewayError("the log is full")

        before = store.versions()
        with pytest.raises(GatewayError, match="the log is full"):
            propose(store, terms_of(), record=refuse)
        assert store.versions() == before
        version = active(store)
        with pytest.raises(GatewayError, match="the log is full"):
            suspend(store, version, record=refuse)
        assert store.versions()[1] == [version]
        assert suspend(store, version).standing.held_by == (COMPANY,)

    def test_of_two_changes_none_is_kept_if_the_second_is_not_recorded(self, store: ContractStore) -> None:
        first = active(store)
        terms = following(first, title="Another title")
        propose(store, terms)
        before = store.versions()
        heard: list[Change] = []

        def refuse_second(change: Change) -> None:
            heard.append(change)
            if len(heard) == 2:
                raise GatewayError("the log is full")

        with pytest.raises(GatewayError, match="the log is full"):
            sign(store, terms, record=refuse_second)
        assert [change.version.standing.state for change in heard] == ["active", "superseded"]
        assert store.versions() == before

    def test_what_is_refused_is_not_recorded(self, store: ContractStore) -> None:
        recorded: list[Change] = []
        version = active(store)
        suspend(store, version)
        assert reason_of(suspend, store, version, COMPANY, recorded.append) is Reason.CONTRACT_ORDER
        assert reason_of(suspend, store, version, BANK, recorded.append) is Reason.CONTRACT_UNKNOWN
        assert recorded == []
        suspend(store, version, OPERATOR, recorded.append)
        assert [change.by for change in recorded] == [OPERATOR]

    def test_of_many_that_change_at_once_each_sees_what_the_one_before_did(
        self, store: ContractStore, another: Callable[[], ContractStore]
    ) -> None:
        """Control: with what each read before, all eight would have been first."""
        version = active(store)
        outcomes: list[str] = []
        gate = threading.Barrier(8)

        def run() -> None:
            own = another()
            gate.wait()
            try:
                suspend(own, version)
            except GatewayError as error:
                outcomes.append(error.reason.value)
            else:
                outcomes.append("suspended")

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == sorted(["suspended", *["CONTRACT_ORDER"] * 7])

    @pytest.mark.parametrize(
        ("column", "old", "new"),
        [
            ("terms", b"credit-check", b"advertising!"),
            ("terms", b'"limited"', b'"public!"'),
            ("signatures", COMPANY, BANK),
            ("standing", f'"{COMPANY}","{AGENCY}"', f'"{COMPANY}"'),
            ("standing", '"active"', '"golden"'),
            ("id", "sha256:", "sha512:"),
        ],
    )
    def test_an_edited_contract_does_not_count(
        self, store: ContractStore, edit: Callable[..., None], column: str, old: Any, new: Any
    ) -> None:
        """Control: the other contract beside it does."""
        version = active(store)
        other = active(store, contract="untouched")
        edit(version, column, old, new)
        assert store.versions()[1] == [other]
        if column != "id":
            assert reason_of(suspend, store, version) is Reason.CONTRACTS_UNAVAILABLE


def later(**delta: float) -> datetime:
    return NOW + timedelta(**delta)
