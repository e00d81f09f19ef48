"""What policy decided."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Treatment(StrEnum):
    """What becomes of a field's value. Ordered by strictness: when rules disagree, the later wins."""

    RELEASE = "release"
    GENERALISE = "generalise"
    MASK = "mask"
    PSEUDONYMISE = "pseudonymise"
    DROP = "drop"


class Obligation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The treatment of one field, with its parameters."""

    treatment: Treatment
    params: dict[str, str | int] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. The same input under the same bundle gives the same decision, id included."""

    id: str
    """Names the decision by content: derived from the bundle digest and the policy input."""
    allow: bool
    reasons: tuple[str, ...]
    """Reason codes; all that apply, sorted. Empty when allowed."""
    tier: str
    """The tier granted; empty when denied."""
    obligations: dict[str, Obligation]
    """For every field of the dataset that was considered."""
    duties: dict[str, dict[str, str | int]] = {}
    """What binds the exchange as a whole: name of the duty to its parameters; whole numbers and texts."""
    rule_ids: tuple[str, ...]
    valid_until: str | None
    """RFC 3339; the decision must not be used after it. None: as long as the bundle stands."""
    bundle_digest: str
    """`sha256:<hex>` of the policy bundle."""
    engine: str
    """Name and version of the engine that decided."""
