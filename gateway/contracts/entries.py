"""Contracts in the audit log: what an entry tells of a change, so that a kept contract can be held to it.

Every entry tells how the version stands after the change and commits to it, signatures included, by a
digest (docs/formats/contract.md). The last entry about a version is what holds.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from typing import Final

from gateway.clock import rfc3339
from gateway.contracts.life_cycle import Standing
from gateway.contracts.version import Change, Version
from gateway.evidence.canonical import encode_canonical
from gateway.model import ENTRY_VERSION, ContractState, Entry, EntryKind

CONTRACT_KINDS: Final = (
    EntryKind.CONTRACT_PROPOSED,
    EntryKind.CONTRACT_SIGNED,
    EntryKind.CONTRACT_COUNTERED,
    EntryKind.CONTRACT_ACTIVATED,
    EntryKind.CONTRACT_SUSPENDED,
    EntryKind.CONTRACT_RESUMED,
    EntryKind.CONTRACT_TERMINATED,
    EntryKind.CONTRACT_EXPIRED,
    EntryKind.CONTRACT_SUPERSEDED,
)
"""The kinds of entries that tell how a version of a contract stands."""

_SIGNING: Final = (
    EntryKind.CONTRACT_PROPOSED,
    EntryKind.CONTRACT_SIGNED,
    EntryKind.CONTRACT_ACTIVATED,
)

_DIGEST_FORMAT: Final = 1
"""Version of what goes into the digest; part of it."""


def version_digest(version: Version) -> str:
    """Return `sha256:<hex>` over the canonical JSON of all that is kept of a version."""
    content = {
        "format": _DIGEST_FORMAT,
        "contract": version.id,
        "signatures": [
            {"member": item.member, "key": item.keyid, "signature": item.sig.hex()}
            for item in version.signatures
        ],
        **_standing(version.standing),
    }
    return "sha256:" + hashlib.sha256(encode_canonical(content)).hexdigest()


def describe_version(version: Version) -> dict[str, str]:
    """Return how `version` stands as the detail of an entry."""
    return {**_standing(version.standing), "digest": version_digest(version)}


def entry_of(change: Change, now: datetime) -> Entry:
    """Return the entry that tells of `change`."""
    version, before = change.version, change.before
    detail = {
        **describe_version(version),
        **change.detail,
        "by": change.by,
        "before": version_digest(before) if before is not None else "",
    }
    key = ""
    if change.kind in _SIGNING:
        signature = version.signatures[-1]
        key = signature.keyid
        detail["signature"] = base64.b64encode(signature.sig).decode()
    return Entry(
        v=ENTRY_VERSION,
        kind=change.kind,
        time=rfc3339(now),
        consumer=change.by if change.by in version.members else "",
        provider=version.terms.contributor,
        contract=version.id,
        subject=version.name,
        envelope_key=key,
        detail={name: value for name, value in detail.items() if value},
    )


def told_standing(entry: Entry) -> Standing | None:
    """Return how the version stands that `entry` tells of; None if no gateway writes such an entry."""
    detail = entry.detail
    try:
        return Standing(
            state=ContractState(detail["state"]),
            signed_by=tuple(detail["signed_by"].split(",")),
            held_by=tuple(detail["held_by"].split(",")) if "held_by" in detail else (),
            reason=detail.get("reason", ""),
            changed=detail["changed"],
            ended=detail.get("ended"),
        )
    except (KeyError, ValueError):
        return None


def _standing(standing: Standing) -> dict[str, str]:
    return {
        "state": standing.state.value,
        "signed_by": ",".join(standing.signed_by),
        "held_by": ",".join(standing.held_by),
        "reason": standing.reason,
        "changed": standing.changed,
        "ended": standing.ended or "",
    }
