"""The document that the rules return, read strictly: whatever does not fit exactly is a failure."""

from __future__ import annotations

from datetime import UTC
from typing import Final

import msgspec

from gateway.clock import parse_rfc3339
from gateway.errors import Reason
from gateway.model import Decision, Obligation
from gateway.policy.bundle import Bundle
from gateway.policy.errors import PolicyError


class ResultDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`data.exchange.decision.result`."""

    allow: bool
    reasons: tuple[str, ...]
    tier: str
    obligations: dict[str, Obligation]
    duties: dict[str, dict[str, str | int]]
    rule_ids: tuple[str, ...]
    valid_until: str | None
    bundle: str
    """Digest of the bundle that decided; empty when the rules fell back to their default."""


_DECODER: Final = msgspec.json.Decoder(ResultDocument)


def decode_result(encoded: bytes, bundle: Bundle, identifier: str, engine: str) -> Decision:
    """Return the decision that the rules gave as `encoded` JSON.

    `identifier` is the decision's id, `engine` the name of what evaluated. Raise `PolicyError`:
    `POLICY_UNDEFINED` if the rules fell back to their default, `POLICY_STALE` if another bundle decided,
    `POLICY_FAILED` if the document has a wrong shape, an unknown treatment or reason, or contradicts itself.
    """
    try:
        result = _DECODER.decode(encoded)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise PolicyError(
            "The policy gave an answer that this gateway cannot read. Report this to the operator."
        ) from fault
    if not result.bundle:
        raise PolicyError(
            "No rule of the policy speaks about this exchange. Report this to the operator.",
            reason=Reason.POLICY_UNDEFINED,
        )
    if result.bundle != bundle.digest:
        raise PolicyError(
            "The policy engine holds another policy bundle than this gateway. Ask again in a moment; if this "
            "stays, the operator must load the same bundle into both.",
            reason=Reason.POLICY_STALE,
        )
    _verify_consistency(result, bundle)
    return Decision(
        id=identifier,
        allow=result.allow,
        reasons=result.reasons,
        tier=result.tier,
        obligations=result.obligations,
        duties=result.duties,
        rule_ids=result.rule_ids,
        valid_until=result.valid_until,
        bundle_digest=bundle.digest,
        engine=engine,
    )


def _verify_consistency(result: ResultDocument, bundle: Bundle) -> None:
    if result.allow:
        consistent = bool(result.obligations) and not result.reasons and result.tier in bundle.data["tiers"]
    else:
        consistent = (
            not result.obligations
            and not result.duties
            and not result.tier
            and bool(result.reasons)
            and all(reason in Reason.__members__ for reason in result.reasons)
        )
    if consistent and result.valid_until is not None:
        consistent = _is_instant(result.valid_until)
    if not consistent:
        raise PolicyError("The policy gave an answer that contradicts itself. Report this to the operator.")


def _is_instant(text: str) -> bool:
    try:
        return parse_rfc3339(text).tzinfo is UTC
    except ValueError:
        return False
