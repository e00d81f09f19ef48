"""The lattice of treatments: when rules disagree about a field, the strictest holds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.model import Treatment

TREATMENT_ORDER: Final[tuple[Treatment, ...]] = (
    Treatment.RELEASE,
    Treatment.GENERALISE,
    Treatment.MASK,
    Treatment.PSEUDONYMISE,
    Treatment.DROP,
)
"""From the most open to the strictest."""

_RANK: Final[Mapping[Treatment, int]] = MappingProxyType(
    {treatment: rank for rank, treatment in enumerate(TREATMENT_ORDER)}
)


def strictest(first: Treatment, second: Treatment) -> Treatment:
    """Return the stricter of the two: commutative, associative, idempotent; `DROP` absorbs all."""
    return first if _RANK[first] >= _RANK[second] else second
