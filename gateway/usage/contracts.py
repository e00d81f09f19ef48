"""Where usage learns of contracts: the terms that entries name by their identity."""

from __future__ import annotations

from typing import Protocol

from gateway.model.contract import Contract


class ContractSource(Protocol):
    """The register of contracts, as far as usage needs it."""

    def of_member(self, member: str) -> list[Contract]:
        """Return every contract to which `member` is a party, in whatever state."""
        ...


class NoContracts:
    """The register of a deployment without contracts."""

    def of_member(self, member: str) -> list[Contract]:  # noqa: ARG002 - as the port has it
        """Return nothing."""
        return []


def contributed_by(member: str, contracts: ContractSource) -> dict[str, Contract]:
    """Return by identity the contracts under which `member` is the one that contributes.

    What it is party to as a recipient is another contributor's business.
    """
    return {
        contract.id: contract
        for contract in contracts.of_member(member)
        if contract.terms.contributor == member
    }
