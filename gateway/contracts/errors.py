"""What can be wrong with a contract, or with what somebody wants to do with it."""

from __future__ import annotations

from gateway.errors import GatewayError, Reason


class ContractError(GatewayError):
    """What was asked of a contract is refused; the reason says why. Nothing was changed."""

    reason = Reason.CONTRACT_MALFORMED


class ContractOrderError(ContractError):
    """The act does not fit where the contract stands."""

    reason = Reason.CONTRACT_ORDER


class ContractsUnavailableError(GatewayError):
    """The contracts cannot be read or changed now; whatever needs one is refused."""

    reason = Reason.CONTRACTS_UNAVAILABLE


def unknown_contract() -> ContractError:
    """Return the refusal of a contract that is not there, or is nothing to the caller."""
    return ContractError(
        "There is no such contract, or this member is no party to it; see `gateway contract list`.",
        reason=Reason.CONTRACT_UNKNOWN,
    )


def no_party() -> ContractError:
    """Return the refusal of an act that only parties may do."""
    return ContractError(
        "This member is no party to the contract; only a party may propose, sign, counter or end it.",
        reason=Reason.CONTRACT_NOT_PARTY,
    )
