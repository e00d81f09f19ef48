"""Entries as events of the Open Cybersecurity Schema Framework: class API Activity (6003), OCSF 1.8.0.

Every event carries the entry itself as `raw_data`, so that nothing is lost in translation and each
event can be held against the log. What the class has no place for stands in `unmapped`.
"""

from __future__ import annotations

from typing import Any, Final

from gateway import __version__
from gateway.audit.store import StoredEntry
from gateway.clock import parse_rfc3339
from gateway.model.entry import Entry, EntryKind

OCSF_VERSION: Final = "1.8.0"
CLASS_UID: Final = 6003
CATEGORY_UID: Final = 6

_CREATE, _READ, _UPDATE, _OTHER = 1, 2, 3, 99
_ACTIVITY: Final = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _OTHER: "Other"}
_ACTIVITY_OF: Final = {
    "exchange": _READ,
    "acknowledgement": _CREATE,
    "contribution": _CREATE,
    "audit": _READ,
    "member": _UPDATE,
    "key": _UPDATE,
}
_CREATING: Final = frozenset({EntryKind.MEMBER_ADDED, EntryKind.KEY_ADDED, EntryKind.EXCHANGE_ACKNOWLEDGED})
_REFUSED: Final = frozenset(
    {
        EntryKind.EXCHANGE_DENIED,
        EntryKind.EXCHANGE_FAILED,
        EntryKind.ACKNOWLEDGEMENT_REFUSED,
        EntryKind.CONTRIBUTION_REFUSED,
    }
)

_INFORMATIONAL, _LOW = 1, 2
_SUCCESS, _FAILURE = 1, 2
_ALLOWED, _DENIED = 1, 2
_SERVICE: Final = "gateway.api.v1.ExchangeService"
_MAPPED: Final = frozenset(
    {"v", "kind", "time", "exchange", "consumer", "operation", "reasons", "duration_ms", "bundle", "decision"}
)


def to_ocsf(stored: StoredEntry, entry: Entry, origin: str) -> dict[str, Any]:
    """Return the event of an entry of the log `origin`."""
    subject, _, _ = entry.kind.value.partition(".")
    activity = _CREATE if entry.kind in _CREATING else _ACTIVITY_OF.get(subject, _OTHER)
    refused = entry.kind in _REFUSED
    actor = entry.consumer or entry.detail.get("by", "") or "gateway"
    event: dict[str, Any] = {
        "class_uid": CLASS_UID,
        "class_name": "API Activity",
        "category_uid": CATEGORY_UID,
        "category_name": "Application Activity",
        "activity_id": activity,
        "activity_name": _ACTIVITY[activity],
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"API Activity: {_ACTIVITY[activity]}",
        "severity_id": _LOW if refused else _INFORMATIONAL,
        "severity": "Low" if refused else "Informational",
        "status_id": _FAILURE if refused else _SUCCESS,
        "status": "Failure" if refused else "Success",
        "time": int(parse_rfc3339(entry.time).timestamp() * 1000),
        "message": _message(entry),
        "metadata": _metadata(stored, entry, origin),
        "actor": {"app_uid": actor, "app_name": actor},
        "src_endpoint": {"uid": actor, "name": actor},
        "api": _api(entry),
        "raw_data": stored.data.decode(),
        "unmapped": _unmapped(entry),
    }
    if entry.reasons:
        event["status_code"] = entry.reasons[0]
        event["status_detail"] = " ".join(entry.reasons)
    if entry.duration_ms:
        event["duration"] = entry.duration_ms
    if subject == "exchange":
        event |= {
            "action_id": _DENIED if refused else _ALLOWED,
            "action": "Denied" if refused else "Allowed",
            "disposition_id": 2 if refused else 1,
            "disposition": "Blocked" if refused else "Allowed",
        }
    if entry.bundle:
        event["policy"] = {"uid": entry.bundle, "name": "policy bundle", "is_applied": True}
    resource = entry.dataset or entry.subject
    if resource:
        event["resources"] = [
            {"uid": resource, "name": resource, "type": "dataset" if entry.dataset else subject}
        ]
    return event


def _metadata(stored: StoredEntry, entry: Entry, origin: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "version": OCSF_VERSION,
        "profiles": ["security_control"],
        "product": {"name": "Sluicegate", "vendor_name": "Sluicegate", "version": __version__},
        "uid": f"{origin}/entries/{stored.index}",
        "sequence": stored.index,
        "log_name": origin,
        "event_code": entry.kind.value,
        "original_time": entry.time,
    }
    if entry.exchange:
        metadata["correlation_uid"] = entry.exchange
    return metadata


def _api(entry: Entry) -> dict[str, Any]:
    api: dict[str, Any] = {"operation": entry.operation or entry.kind.value}
    if entry.exchange:
        api["service"] = {"name": _SERVICE}
        api["request"] = {"uid": entry.exchange}
    if entry.reasons:
        api["response"] = {"error": entry.reasons[0]}
    return api


def _message(entry: Entry) -> str:
    about = entry.dataset or entry.subject
    return f"{entry.kind.value} {about}".rstrip()


def _unmapped(entry: Entry) -> dict[str, Any]:
    """Return what the class has no place for, without what is absent."""
    return {
        name: value
        for name in Entry.__struct_fields__
        if name not in _MAPPED and (value := getattr(entry, name)) not in ("", 0, None, (), {})
    }
