"""What can go wrong, as stable reason codes.

Every refusal a caller can see is a `GatewayError` with one `Reason`. `gateway.rpc.status` maps each
reason once to a gRPC status; anything that is not a `GatewayError` is an internal fault and shows
nothing of itself outside. Reason codes are public interface: they are never renamed or reused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why an exchange was refused. The value is `ErrorInfo.reason` on the wire and in the audit log."""

    # Who is calling
    MEMBER_UNKNOWN = "MEMBER_UNKNOWN"
    MEMBER_SUSPENDED = "MEMBER_SUSPENDED"
    CERTIFICATE_INVALID = "CERTIFICATE_INVALID"
    CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"
    ROLE_MISSING = "ROLE_MISSING"

    # What was sent
    REQUEST_MALFORMED = "REQUEST_MALFORMED"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    METADATA_INVALID = "METADATA_INVALID"
    DEADLINE_MISSING = "DEADLINE_MISSING"
    DEADLINE_INVALID = "DEADLINE_INVALID"
    SIGNATURE_MISSING = "SIGNATURE_MISSING"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    SIGNATURE_FOREIGN = "SIGNATURE_FOREIGN"
    STATEMENT_MALFORMED = "STATEMENT_MALFORMED"
    STATEMENT_AUDIENCE = "STATEMENT_AUDIENCE"
    STATEMENT_STALE = "STATEMENT_STALE"
    CLOCK_SKEW = "CLOCK_SKEW"
    REPLAYED = "REPLAYED"
    RELEASE_MISMATCH = "RELEASE_MISMATCH"
    ACKNOWLEDGEMENT_LATE = "ACKNOWLEDGEMENT_LATE"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"  # noqa: S105 - a reason, no secret

    # What was asked for
    DATASET_UNKNOWN = "DATASET_UNKNOWN"
    FIELD_UNKNOWN = "FIELD_UNKNOWN"
    PURPOSE_UNKNOWN = "PURPOSE_UNKNOWN"
    TIER_UNKNOWN = "TIER_UNKNOWN"
    IDENTIFIER_INVALID = "IDENTIFIER_INVALID"
    SUBJECT_MISSING = "SUBJECT_MISSING"
    FILTER_UNSUPPORTED = "FILTER_UNSUPPORTED"

    # What policy said (codes that the Rego policy returns)
    SIGNATURE_REQUIRED = "SIGNATURE_REQUIRED"
    MEMBER_CLASS_NOT_PERMITTED = "MEMBER_CLASS_NOT_PERMITTED"
    PURPOSE_NOT_PERMITTED = "PURPOSE_NOT_PERMITTED"
    LEGAL_BASIS_MISSING = "LEGAL_BASIS_MISSING"
    LEGAL_BASIS_UNKNOWN = "LEGAL_BASIS_UNKNOWN"
    LEGAL_BASIS_NOT_PERMITTED = "LEGAL_BASIS_NOT_PERMITTED"
    LEGAL_BASIS_NOT_IN_FORCE = "LEGAL_BASIS_NOT_IN_FORCE"
    MEMORANDUM_MISSING = "MEMORANDUM_MISSING"
    MEMORANDUM_UNKNOWN = "MEMORANDUM_UNKNOWN"
    MEMORANDUM_NOT_APPLICABLE = "MEMORANDUM_NOT_APPLICABLE"
    MEMORANDUM_NOT_IN_FORCE = "MEMORANDUM_NOT_IN_FORCE"
    FIELD_ABOVE_TIER = "FIELD_ABOVE_TIER"
    FILTER_HIDDEN_FIELD = "FILTER_HIDDEN_FIELD"
    OPERATION_NOT_PERMITTED = "OPERATION_NOT_PERMITTED"
    SCORE_NOT_PERMITTED = "SCORE_NOT_PERMITTED"
    DOCUMENT_MISSING = "DOCUMENT_MISSING"
    SUBJECTS_NOT_PERMITTED = "SUBJECTS_NOT_PERMITTED"
    CATALOGUE_ENTRY_UNKNOWN = "CATALOGUE_ENTRY_UNKNOWN"
    CATALOGUE_ENTRY_BREACHED = "CATALOGUE_ENTRY_BREACHED"
    NOTHING_PERMITTED = "NOTHING_PERMITTED"

    # The policy engine itself
    POLICY_UNDEFINED = "POLICY_UNDEFINED"
    POLICY_FAILED = "POLICY_FAILED"
    POLICY_TIMEOUT = "POLICY_TIMEOUT"
    POLICY_UNAVAILABLE = "POLICY_UNAVAILABLE"
    POLICY_STALE = "POLICY_STALE"
    OBLIGATION_UNSUPPORTED = "OBLIGATION_UNSUPPORTED"

    # Duties that policy laid on the exchange as a whole
    COHORT_TOO_SMALL = "COHORT_TOO_SMALL"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    ACKNOWLEDGEMENT_OVERDUE = "ACKNOWLEDGEMENT_OVERDUE"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"

    # Questions to lists
    LIST_UNAVAILABLE = "LIST_UNAVAILABLE"
    ASKED_RECENTLY = "ASKED_RECENTLY"

    # The vault of contributed records
    VAULT_UNAVAILABLE = "VAULT_UNAVAILABLE"
    BATCH_CLOSED = "BATCH_CLOSED"
    RECORDS_DESTROYED = "RECORDS_DESTROYED"

    # The provider
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_TIMEOUT = "PROVIDER_TIMEOUT"
    PROVIDER_REFUSED = "PROVIDER_REFUSED"
    PROVIDER_SCHEMA = "PROVIDER_SCHEMA"
    PROVIDER_TOO_MANY_RECORDS = "PROVIDER_TOO_MANY_RECORDS"
    PROVIDER_SIGNATURE = "PROVIDER_SIGNATURE"

    # The gateway
    KEY_EPOCH_MISSING = "KEY_EPOCH_MISSING"
    MEMBERS_UNAVAILABLE = "MEMBERS_UNAVAILABLE"
    LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
    WITNESS_UNAVAILABLE = "WITNESS_UNAVAILABLE"
    PROOF_INVALID = "PROOF_INVALID"
    OVERLOADED = "OVERLOADED"
    ENTRY_NOT_FOUND = "ENTRY_NOT_FOUND"
    DETAILS_UNAVAILABLE = "DETAILS_UNAVAILABLE"
    DETAILS_MISSING = "DETAILS_MISSING"
    DETAILS_ERASED = "DETAILS_ERASED"
    APPROVAL_INVALID = "APPROVAL_INVALID"
    READER_STALLED = "READER_STALLED"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


ERROR_DOMAIN: Final = "sluicegate"
"""`ErrorInfo.domain` of every error this product raises."""


class GatewayError(Exception):
    """A refusal with a reason code.

    `message` says what happened and what to do next, in one or two sentences; it never holds an
    identifier, a record value, a secret, or text of a foreign exception. `details` holds the
    dynamic parts of the message (names of fields, limits), for programs.
    """

    reason: Reason = Reason.INTERNAL

    def __init__(self, message: str, *, reason: Reason | None = None, **details: str | int) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.details: dict[str, str] = {name: str(value) for name, value in details.items()}


class ConfigError(GatewayError):
    """The deployment's own files are wrong; raised at start-up, never during an exchange."""
