"""Step 3: under which contract records of a contributor are asked for, and what policy sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from gateway.errors import GatewayError, Reason
from gateway.exchange.transform import verify_treatment
from gateway.exchange.treatments import ObligationError, mask_lengths
from gateway.model import Contract, Dataset, Field, FieldTerm, Member, Obligation, Query, Treatment
from gateway.policy.policy_input import ContractFacts, RecipientFacts, TermFacts
from gateway.recent import Recent

_DROP: Final = TermFacts(Treatment.DROP.value)
_facts: Final[Recent[tuple[str, Dataset], ContractFacts]] = Recent(4096)


class ContractsInForce(Protocol):
    """Knows the contracts in force: active, within their dates, every party an active member."""

    def covering(self, dataset: str, now: datetime) -> Sequence[Contract]:
        """Return those in force at `now` that name `dataset`; raise `GatewayError` if it cannot tell."""
        ...

    def in_return(self, contributor: str, dataset: str) -> Sequence[Contract]:
        """Return the contracts, in force or not, by which `contributor` gets `dataset` in return.

        See `gateway.contracts.reciprocity`. Raises `GatewayError` if it cannot tell.
        """
        ...


class Contracts(ContractsInForce, Protocol):
    """Knows all contracts, and which are in force (`gateway.contracts.register.ContractRegister`)."""

    def in_force(self, now: datetime) -> Sequence[Contract]:
        """Return those in force at `now`; raise `GatewayError` if it cannot tell."""
        ...

    def contracts(self) -> Sequence[Contract]:
        """Return all, in whatever state; raise `GatewayError` if it cannot tell."""
        ...

    def contract(self, contract_id: str) -> Contract:
        """Return the one with this identity; raise `GatewayError` if there is none."""
        ...


class NoContracts:
    """The `Contracts` of a gateway that has none."""

    def covering(self, dataset: str, now: datetime) -> Sequence[Contract]:
        """Return none."""
        del dataset, now
        return ()

    def in_return(self, contributor: str, dataset: str) -> Sequence[Contract]:
        """Return none."""
        del contributor, dataset
        return ()

    def in_force(self, now: datetime) -> Sequence[Contract]:
        """Return none."""
        del now
        return ()

    def contracts(self) -> Sequence[Contract]:
        """Return none."""
        return ()

    def contract(self, contract_id: str) -> Contract:
        """Raise `GatewayError`."""
        del contract_id
        raise GatewayError("There is no contract with this identity.", reason=Reason.CONTRACT_UNKNOWN)


def find_contract(
    query: Query, dataset: Dataset, consumer: Member, contracts: ContractsInForce, now: datetime
) -> Contract | None:
    """Return the contract that `query` is asked under; None if none covers `dataset`.

    The one that the query names, by identity or by name. If it names none: the only one that covers the
    dataset, or of several the only one that names the consumer and the purpose. Raises `GatewayError`:
    `CONTRACT_NOT_IN_FORCE` if the one that is named does not cover the dataset now, `CONTRACT_MISSING` if
    the choice is open, `CONTRACT_NOT_APPLICABLE` if of several none serves.
    """
    covering = contracts.covering(dataset.name, now)
    if query.contract:
        named = [one for one in covering if query.contract in {one.id, one.terms.contract}]
        if len(named) != 1:
            raise GatewayError(
                "No contract of this name or identity is in force for this dataset now. Leave `contract` "
                "out, or ask the contributor which one is.",
                reason=Reason.CONTRACT_NOT_IN_FORCE,
            )
        return named[0]
    if len(covering) <= 1:
        return next(iter(covering), None)
    serving = [one for one in covering if is_recipient(one, consumer) and query.purpose in one.terms.purposes]
    if len(serving) == 1:
        return serving[0]
    if not serving:
        raise GatewayError(
            "Of the contracts for this dataset, none names your member, or its class, and this purpose.",
            reason=Reason.CONTRACT_NOT_APPLICABLE,
        )
    raise GatewayError(
        "Several contracts serve this query; name the one that you ask under (`contract`).",
        reason=Reason.CONTRACT_MISSING,
        contracts=",".join(sorted(one.terms.contract for one in serving)),
    )


def verify_in_force(contract: Contract, contracts: ContractsInForce, now: datetime) -> None:
    """Raise `GatewayError` with `CONTRACT_NOT_IN_FORCE` unless `contract` is still in force at `now`."""
    if not is_in_force(contract, contracts, now):
        raise GatewayError(
            "The contract has been suspended or has ended while the answer was under way; ask its "
            "contributor.",
            reason=Reason.CONTRACT_NOT_IN_FORCE,
        )


def is_in_force(contract: Contract, contracts: ContractsInForce, now: datetime) -> bool:
    """Whether `contract` is in force at `now`; raises `GatewayError` if that cannot be told."""
    return any(one.id == contract.id for one in contracts.covering(contract.terms.datasets[0].name, now))


def is_recipient(contract: Contract, consumer: Member) -> bool:
    """Whether the contract names the member, or its class, as a recipient. Policy asks that for itself."""
    recipients = contract.terms.recipients
    return consumer.id in recipients.members or consumer.member_class in recipients.classes


def contract_facts(contract: Contract, dataset: Dataset) -> ContractFacts:
    """Return what policy may know of `contract` about `dataset`.

    A treatment that the field cannot take is told as `drop`.
    """
    facts = _facts.get((contract.id, dataset))
    if facts is None:
        facts = _made_facts(contract, dataset)
        _facts.put((contract.id, dataset), facts)
    return facts


def _made_facts(contract: Contract, dataset: Dataset) -> ContractFacts:
    terms = contract.terms
    of_dataset = terms.dataset(dataset.name)
    fields = {} if of_dataset is None else of_dataset.fields
    return ContractFacts(
        id=contract.id,
        name=terms.contract,
        version=terms.version,
        contributor=terms.contributor,
        parties=tuple(sorted({party.member for party in terms.parties})),
        purposes=tuple(sorted({*terms.purposes})),
        recipients=RecipientFacts(
            tuple(sorted({*terms.recipients.members})), tuple(sorted({*terms.recipients.classes}))
        ),
        fields={
            name: _term(dataset.fields[name], term) for name, term in fields.items() if name in dataset.fields
        },
        valid_from=terms.valid_from,
        valid_until=terms.valid_until,
        onward_sharing=terms.onward_sharing,
    )


def _term(field: Field, term: FieldTerm) -> TermFacts:
    """Return the term in the one spelling that the rules compare; `drop` if it cannot be carried out."""
    try:
        match term.treatment:
            case Treatment.MASK:
                first, last = mask_lengths(term.params)
                found = TermFacts(term.treatment.value, {"keep_first": first, "keep_last": last})
            case Treatment.GENERALISE:
                found = TermFacts(term.treatment.value, {"method": str(term.params.get("method", ""))})
            case _:
                found = TermFacts(term.treatment.value)
        verify_treatment(field, Obligation(term.treatment, found.params))
    except ObligationError:
        return _DROP
    return found
