"""Step 3: by which contract of its own a contributor gets records of others in return for what it gives.

The clause grants nothing: policy decides as if there were none. It bounds, and what leaves is counted.
"""

from __future__ import annotations

from datetime import datetime

from gateway.clock import parse_rfc3339
from gateway.errors import GatewayError, Reason
from gateway.exchange.contracts import ContractsInForce, is_in_force
from gateway.model import Contract, Dataset, Member, Query


def find_reciprocity(
    query: Query, dataset: Dataset, consumer: Member, contracts: ContractsInForce, now: datetime
) -> Contract | None:
    """Return the consumer's own contract by which it gets `dataset` in return; None if there is none.

    The one that the query names, by identity or by name, or else the only one in force that has the dataset
    in its clause of reciprocity. Raises `GatewayError`: `CONTRACT_MISSING` if the choice is open,
    `CONTRACT_NOT_IN_FORCE` if the only ones there are have been suspended or have ended: a contributor does
    not get rid of what it owes by ending its contract.
    """
    clauses = contracts.in_return(consumer.id, dataset.name)
    if not clauses:
        return None
    in_force = [one for one in clauses if is_in_force(one, contracts, now)]
    named = [one for one in in_force if is_named(one, query)]
    if len(named) == 1 or len(in_force) == 1:
        return (named or in_force)[0]
    if in_force:
        raise GatewayError(
            "Several of your contracts give you this dataset in return; name the one that it is counted on "
            "(`contract`).",
            reason=Reason.CONTRACT_MISSING,
            contracts=",".join(sorted(one.terms.contract for one in in_force)),
        )
    if any(_has_been_in_force(one, now) for one in clauses):
        raise GatewayError(
            "You get this dataset in return for what you give, and your contract has been suspended or has "
            "ended; ask its other parties.",
            reason=Reason.CONTRACT_NOT_IN_FORCE,
        )
    return None


def is_named(contract: Contract, query: Query) -> bool:
    """Whether the query names the contract, by identity or by name."""
    return query.contract in {contract.id, contract.terms.contract}


def _has_been_in_force(contract: Contract, now: datetime) -> bool:
    until = now if contract.ended is None else min(now, parse_rfc3339(contract.ended))
    return parse_rfc3339(contract.terms.valid_from) <= until
