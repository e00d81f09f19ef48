"""Entries of the audit log: the kinds and the shape. Values of records never stand in one."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

ENTRY_VERSION = 1


class EntryKind(StrEnum):
    """What happened, as `subject.past_participle`."""

    EXCHANGE_REQUESTED = "exchange.requested"
    EXCHANGE_DENIED = "exchange.denied"
    EXCHANGE_PAGE = "exchange.page"
    EXCHANGE_RELEASED = "exchange.released"
    EXCHANGE_FAILED = "exchange.failed"
    EXCHANGE_ACKNOWLEDGED = "exchange.acknowledged"
    ACKNOWLEDGEMENT_REFUSED = "acknowledgement.refused"
    ACKNOWLEDGEMENT_WAIVED = "acknowledgement.waived"
    CORRECTION_ANNOUNCED = "correction.announced"
    CORRECTION_DELIVERED = "correction.delivered"
    CORRECTION_ACKNOWLEDGED = "correction.acknowledged"
    CORRECTION_REFUSED = "correction.refused"
    SUBJECT_NOTIFIED = "subject.notified"
    CONTRIBUTION_BEGUN = "contribution.begun"
    CONTRIBUTION_ACCEPTED = "contribution.accepted"
    CONTRIBUTION_REFUSED = "contribution.refused"
    CONTRIBUTION_WITHDRAWN = "contribution.withdrawn"
    MEMBER_ADDED = "member.added"
    MEMBER_SUSPENDED = "member.suspended"
    MEMBER_RESUMED = "member.resumed"
    MEMBER_CHANGED = "member.changed"
    MEMBER_CONFIRMED = "member.confirmed"
    KEY_ADDED = "key.added"
    DETAILS_SEARCHED = "details.searched"
    DETAILS_OPENED = "details.opened"
    DETAILS_ERASED = "details.erased"
    ENTRY_DISCLOSED = "entry.disclosed"
    KEY_REVOKED = "key.revoked"
    VAULT_KEY_ROTATED = "vault.key_rotated"
    VAULT_KEY_DESTROYED = "vault.key_destroyed"
    RECORDS_PURGED = "records.purged"
    KEYRING_ROTATED = "keyring.rotated"
    POLICY_CHANGED = "policy.changed"
    POLICY_ACTIVATED = "policy.activated"
    CATALOGUE_CHANGED = "catalogue.changed"
    DATASET_DESCRIBED = "dataset.described"
    CONFIGURATION_CHANGED = "configuration.changed"
    AUTHORITIES_CHANGED = "authorities.changed"
    KEYS_CHANGED = "keys.changed"
    GATEWAY_STARTED = "gateway.started"
    GATEWAY_STOPPED = "gateway.stopped"
    GATEWAY_CRASHED = "gateway.crashed"
    CLOCK_JUMPED = "clock.jumped"
    CONTRACT_PROPOSED = "contract.proposed"
    CONTRACT_SIGNED = "contract.signed"
    CONTRACT_COUNTERED = "contract.countered"
    CONTRACT_ACTIVATED = "contract.activated"
    CONTRACT_SUSPENDED = "contract.suspended"
    CONTRACT_RESUMED = "contract.resumed"
    CONTRACT_TERMINATED = "contract.terminated"
    CONTRACT_EXPIRED = "contract.expired"
    CONTRACT_SUPERSEDED = "contract.superseded"
    CONTRACT_REFUSED = "contract.refused"
    AUDIT_READ = "audit.read"
    STATEMENT_ISSUED = "statement.issued"
    NOTICE_FAILED = "notice.failed"
    LOG_OPENED = "log.opened"
    LOG_CLOSED = "log.closed"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One entry. Encoded as canonical JSON (RFC 8785) it is a leaf of the log, at most 16 KiB.

    Absent and default are the same: a member that does not apply is left out.
    """

    v: int
    """Format version: `ENTRY_VERSION`."""
    kind: EntryKind
    time: str
    """RFC 3339 in UTC with microseconds."""
    exchange: str = ""
    """UUIDv7; joins the entries of one exchange."""
    consumer: str = ""
    provider: str = ""
    sequence: int | None = None
    """Which release of this provider to this consumer it is, from 1 (`exchange.released`). 0 stands in an
    entry on its way for the number that the log will give it."""
    operation: str = ""
    dataset: str = ""
    tier: str = ""
    purpose: str = ""
    legal_basis: str = ""
    memorandum: str = ""
    contract: str = ""
    """Identity (`sha256:<hex>`) of the contract under which it happened, or to which it happened."""
    in_return: str = ""
    """Identity of the consumer's own contract by which it gets the records in return for what it gives."""
    decision: str = ""
    bundle: str = ""
    """Digest of the policy bundle."""
    policy_input: dict[str, Any] = {}
    """What policy was asked (`exchange.requested`, `exchange.denied`): the facts, with the digest of the
    dataset's description in place of the description (`gateway.policy.recorded_input`)."""
    reasons: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    """Names of the fields released, sorted."""
    withheld: tuple[str, ...] = ()
    """Names of the fields that policy withheld, sorted."""
    obligations: dict[str, str] = {}
    """Field name to treatment, for fields not released as they are."""
    duties: dict[str, dict[str, str | int]] = {}
    """Name of each duty of the exchange to its parameters and what was done (docs/formats/audit-log.md)."""
    records: int = 0
    page: int | None = None
    """The page's number from 0 (`exchange.page`)."""
    pages: int = 0
    unknown_fields: int = 0
    """How many fields the provider sent that the schema does not know; all were dropped."""
    invalid_identifiers: int = 0
    """How many identifier values failed their check and were withheld."""
    key_epoch: str = ""
    bytes: int = 0
    duration_ms: int = 0
    commitments: dict[str, str] = {}
    """Name (`query`, `subject`, `records`) to base64 of the salted SHA-256 commitment; `details` to base64
    of the SHA-256 of the details as they are kept, sealed."""
    fields: dict[str, str] = {}
    """`root` over the salted digests of all other members, and a `blind`: what lets chosen members be
    shown without the rest (`gateway.evidence.fields`)."""
    envelope_key: str = ""
    """Key id that signed the query, or the acknowledgement."""
    acknowledges: int | None = None
    """Index of the release that the recipient says to have received (`exchange.acknowledged`)."""
    acknowledgement: str = ""
    """What the recipient signed to say so, or to answer a correction: its DSSE envelope, as JSON."""
    withdraws: int | None = None
    """Index of the release of this exchange for which no receipt was issued (`exchange.failed`); what had
    left all the same, as pages of a stream may have, is what this entry counts."""
    provider_key: str = ""
    """Key id that signed what the provider delivered."""
    subject: str = ""
    """Administrative entries: the resource acted on (a member, a key), never a data subject."""
    detail: dict[str, str] = {}
    """Administrative entries: what changed. Never a secret. Of the release of a whole dataset (streamed, no
    subjects, no filters) `days_late`, by which its newest record is older than its holder promised; 0 if it
    is not."""
