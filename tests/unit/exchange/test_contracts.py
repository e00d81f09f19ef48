"""What policy is told of a contract, and which contract a query is asked under."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from gateway.catalogue import Catalogue, CatalogueError
from gateway.errors import GatewayError, Reason
from gateway.exchange.contracts import NoContracts, contract_facts, find_contract, verify_in_force
from gateway.exchange.contributed import ContributedDatasets, contributed_dataset
from gateway.exchange.providers import Providers
from gateway.exchange.resolution import dataset_facts
from gateway.exchange.treatments import keeping
from gateway.model import ContractState, Held, Member, Role
from tests.simulators.in_force import SELLERS, SimulatedContracts, description, sellers_terms

TIERS = ("public", "limited")
BANK = Member(
    id="harbour-bank",
    title="Bank",
    member_class="bank",
    roles=frozenset({Role.CONSUMER}),
    uri="urn:x",
    signing_keys={},
)


@pytest.fixture
def contracts():
    return SimulatedContracts()


def dataset_of(contract):
    return contributed_dataset(contract.terms, contract.terms.datasets[0], TIERS)


def with_terms(contracts, **fields):
    [dataset] = msgspec.to_builtins(sellers_terms())["datasets"]
    contract = contracts.put(sellers_terms(datasets=[{**dataset, "fields": fields}]))
    return contract_facts(contract, dataset_of(contract)).fields


def test_policy_is_told_the_whole_contract(contracts):
    contract = contracts.put(sellers_terms())
    facts = contract_facts(contract, dataset_of(contract))
    assert (facts.id, facts.name, facts.version) == (contract.id, "sellers", 1)
    assert (facts.contributor, facts.parties) == ("registry", ("harbour-bank", "registry"))
    assert facts.recipients.members == ("harbour-bank",)
    assert facts.fields["phone"].params == {"keep_first": 2, "keep_last": 2}
    assert contract_facts(contract, dataset_of(contract)) == facts


@pytest.mark.parametrize(
    ("field", "term"),
    [
        ("name", {"treatment": "pseudonymise"}),
        ("name", {"treatment": "generalise", "params": {"method": "year"}}),
        ("complaints", {"treatment": "mask", "params": {"keep_first": 1}}),
        ("complaints", {"treatment": "generalise", "params": {"method": "roughly"}}),
        ("complaints", {"treatment": "generalise"}),
        ("joined_on", {"treatment": "generalise", "params": {"method": "band:10"}}),
        ("phone", {"treatment": "mask", "params": {"method": "middle:3"}}),
        ("phone", {"treatment": "mask", "params": {"keep_first": -1}}),
        ("phone", {"treatment": "mask", "params": {"shortest": 3}}),
    ],
)
def test_a_term_that_the_field_cannot_take_drops_it(contracts, field, term):
    assert with_terms(contracts, **{field: term})[field].treatment == "drop"


def test_terms_for_fields_that_are_not_there_are_not_told(contracts):
    assert with_terms(contracts, salary={"treatment": "release"}) == {}


def test_the_contract_of_a_query_is_the_one_named_or_the_only_one(contracts, make_query, now):
    contract = contracts.put(sellers_terms())
    dataset = dataset_of(contract)
    for cited in ("", "sellers", contract.id):
        query = make_query(dataset=SELLERS, purpose="public-lookup", contract=cited)
        assert find_contract(query, dataset, BANK, contracts, now) == contract
    before = now - timedelta(days=3650)
    assert find_contract(make_query(dataset=SELLERS), dataset, BANK, contracts, before) is None


def test_a_contract_that_is_not_in_force_is_none(contracts, make_query, now):
    contract = contracts.put(sellers_terms(), ContractState.SUSPENDED)
    dataset = dataset_of(contract)
    assert find_contract(make_query(dataset=SELLERS), dataset, BANK, contracts, now) is None
    assert find_contract(make_query(dataset=SELLERS), dataset, BANK, NoContracts(), now) is None
    with pytest.raises(GatewayError) as raised:
        find_contract(make_query(dataset=SELLERS, contract="sellers"), dataset, BANK, contracts, now)
    assert raised.value.reason is Reason.CONTRACT_NOT_IN_FORCE
    with pytest.raises(GatewayError) as raised:
        verify_in_force(contract, contracts, now)
    assert raised.value.reason is Reason.CONTRACT_NOT_IN_FORCE


def test_of_several_contracts_none_of_which_serves_none_is_taken(contracts, make_query, now):
    for name in ("one", "two"):
        contract = contracts.put(sellers_terms(contract=name, recipients={"classes": ["agency"]}))
    with pytest.raises(GatewayError) as raised:
        find_contract(make_query(dataset=SELLERS), dataset_of(contract), BANK, contracts, now)
    assert raised.value.reason is Reason.CONTRACT_NOT_APPLICABLE


# -- contributed datasets --------------------------------------------------------------------------


async def told_nobody():
    """Take no note that the catalogue is another."""


@pytest.fixture
def follow(catalogue, contracts, now):
    told = {"added": [], "refused": []}
    contributed = ContributedDatasets(
        catalogue,
        contracts,
        TIERS,
        lambda: now,
        added=lambda datasets: told["added"].extend(item.name for item in datasets),
        served=told_nobody,
        refused=lambda refused: told["refused"].append(refused.dataset),
        passes_on_corrections=False,
    )
    return contributed.refresh, told


async def test_datasets_come_and_go_with_their_contracts(follow, catalogue, contracts):
    refresh, told = follow
    await refresh()
    assert [item.name for item in catalogue] == ["members/registry/datasets/companies"]
    contract = contracts.put(sellers_terms())
    await refresh()
    found = catalogue.dataset(SELLERS)
    assert (found.needs_contract, found.held) == (True, Held.PROVIDER)
    assert dataset_facts(found).contract == "required"
    await refresh()
    assert catalogue.dataset(SELLERS) is found, "what did not change stays the same object"
    contracts.put(contract.terms, ContractState.TERMINATED)
    await refresh()
    with pytest.raises(GatewayError) as raised:
        catalogue.dataset(SELLERS)
    assert raised.value.reason is Reason.CONTRACT_NOT_IN_FORCE
    assert told == {"added": [SELLERS], "refused": []}


async def test_a_proposal_binds_nothing(follow, catalogue, contracts):
    contracts.put(sellers_terms(), ContractState.PROPOSED)
    await follow[0]()
    with pytest.raises(GatewayError) as raised:
        catalogue.dataset(SELLERS)
    assert raised.value.reason is Reason.DATASET_UNKNOWN


async def test_a_name_of_the_operators_own_is_refused_once_and_bound(follow, catalogue, contracts, dataset):
    refresh, told = follow
    contracts.put(
        sellers_terms(
            datasets=[{"name": dataset.name, "held": "provider", "description": description(dataset.name)}]
        )
    )
    await refresh()
    await refresh()
    assert told["refused"] == [dataset.name]
    bound = catalogue.dataset(dataset.name)
    assert bound.needs_contract
    assert bound.fields == dataset.fields
    assert not dataset.needs_contract
    contracts.put(sellers_terms())
    await refresh()
    assert catalogue.dataset(dataset.name) is bound


async def test_two_contracts_that_describe_a_dataset_otherwise_are_refused(follow, catalogue, contracts):
    refresh, told = follow
    contracts.put(sellers_terms())
    contracts.put(sellers_terms(contract="other"))
    await refresh()
    assert told["refused"] == []
    other = description(cohort=5)
    contracts.put(
        sellers_terms(
            contract="third", datasets=[{"name": SELLERS, "held": "provider", "description": other}]
        )
    )
    await refresh()
    assert told["refused"] == [SELLERS]
    with pytest.raises(GatewayError):
        catalogue.dataset(SELLERS)


@pytest.mark.parametrize(
    "changed", [{"tier": "cosmic"}, {"provider": "tax"}, {"contract": "maybe"}, {"colour": "blue"}]
)
async def test_a_description_that_is_wrong_is_refused_and_the_others_are_served(
    follow, catalogue, contracts, changed
):
    refresh, told = follow
    name = "members/registry/datasets/spoilt"
    spoilt = {"name": name, "held": "vault", "description": description(name, **changed)}
    contracts.put(sellers_terms(contract="spoilt", datasets=[spoilt]))
    contracts.put(sellers_terms())
    await refresh()
    assert told["refused"] == [name]
    assert catalogue.dataset(SELLERS).name == SELLERS


def test_a_description_of_another_dataset_is_refused():
    terms = sellers_terms(
        datasets=[{"name": SELLERS, "held": "vault", "description": description(SELLERS + "-two")}]
    )
    with pytest.raises(CatalogueError):
        contributed_dataset(terms, terms.datasets[0], TIERS)


def test_a_catalogue_file_may_mark_a_dataset(dataset):
    marked = msgspec.structs.replace(dataset, needs_contract=True)
    assert dataset_facts(Catalogue([marked]).dataset(dataset.name)).contract == "required"


# -- who is asked ----------------------------------------------------------------------------------


class _Directory:
    def provider(self, member):
        return ("provider", member)

    def contributor(self, member):
        return ("contributor", member)

    def signing_keys(self, member):
        return {member: "its own"}


def test_the_vault_is_asked_for_what_it_holds(dataset):
    kept = msgspec.structs.replace(dataset, held=Held.VAULT)
    providers = Providers(_Directory(), "members", "vault", {"key": "the vault's"})
    assert (providers.records(dataset), providers.records(kept)) == ("members", "vault")
    assert providers.holder(dataset) == ("provider", "registry")
    assert providers.holder(kept) == ("contributor", "registry")
    assert providers.signing_keys(dataset) == {"registry": "its own"}
    assert providers.signing_keys(kept) == {"key": "the vault's"}
    with pytest.raises(GatewayError) as raised:
        Providers(_Directory(), "members").records(kept)
    assert raised.value.reason is Reason.PROVIDER_UNAVAILABLE


def test_a_mask_with_a_shortest_text_hides_shorter_ones():
    params = {"keep_first": 1, "keep_last": 1, "shortest": 6}
    assert keeping(params)(["abcdef", "abcde", None]) == ["a****f", "*****", None]
    assert keeping({"keep_first": 1, "keep_last": 1})(["abcde"]) == ["a***e"]
