"""One table from reason codes to gRPC statuses, and the error details that go with them (AIP-193)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from gateway.errors import ERROR_DOMAIN, GatewayError, Reason
from gateway.telemetry.faults import record_fault

_BY_CODE: Final = {
    grpc.StatusCode.UNAUTHENTICATED: (
        Reason.MEMBER_UNKNOWN,
        Reason.CERTIFICATE_INVALID,
        Reason.CERTIFICATE_EXPIRED,
        Reason.SIGNATURE_MISSING,
        Reason.SIGNATURE_INVALID,
        Reason.SIGNATURE_FOREIGN,
        Reason.SIGNATURE_REQUIRED,
        Reason.STATEMENT_AUDIENCE,
        Reason.STATEMENT_STALE,
        Reason.CLOCK_SKEW,
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        Reason.MEMBER_SUSPENDED,
        Reason.ROLE_MISSING,
        Reason.MEMBER_CLASS_NOT_PERMITTED,
        Reason.PURPOSE_NOT_PERMITTED,
        Reason.LEGAL_BASIS_MISSING,
        Reason.LEGAL_BASIS_UNKNOWN,
        Reason.LEGAL_BASIS_NOT_PERMITTED,
        Reason.LEGAL_BASIS_NOT_IN_FORCE,
        Reason.MEMORANDUM_MISSING,
        Reason.MEMORANDUM_UNKNOWN,
        Reason.MEMORANDUM_NOT_APPLICABLE,
        Reason.MEMORANDUM_NOT_IN_FORCE,
        Reason.CONTRACT_MISSING,
        Reason.CONTRACT_NOT_APPLICABLE,
        Reason.CONTRACT_NOT_IN_FORCE,
        Reason.FIELD_ABOVE_TIER,
        Reason.FILTER_HIDDEN_FIELD,
        Reason.OPERATION_NOT_PERMITTED,
        Reason.SCORE_NOT_PERMITTED,
        Reason.DOCUMENT_MISSING,
        Reason.SUBJECTS_NOT_PERMITTED,
        Reason.CATALOGUE_ENTRY_UNKNOWN,
        Reason.CATALOGUE_ENTRY_BREACHED,
        Reason.NOTHING_PERMITTED,
        Reason.OBLIGATION_UNSUPPORTED,
        Reason.POLICY_UNDEFINED,
        Reason.POLICY_FAILED,
        Reason.PURPOSE_UNKNOWN,
        Reason.TIER_UNKNOWN,
        Reason.COHORT_TOO_SMALL,
        Reason.CONTRACT_NOT_PARTY,
        Reason.CONTRACT_HELD,
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        Reason.REQUEST_MALFORMED,
        Reason.METADATA_INVALID,
        Reason.DEADLINE_MISSING,
        Reason.DEADLINE_INVALID,
        Reason.STATEMENT_MALFORMED,
        Reason.PAGE_TOKEN_INVALID,
        Reason.FIELD_UNKNOWN,
        Reason.IDENTIFIER_INVALID,
        Reason.SUBJECT_MISSING,
        Reason.FILTER_UNSUPPORTED,
        Reason.CONTRACT_MALFORMED,
    ),
    grpc.StatusCode.NOT_FOUND: (
        Reason.DATASET_UNKNOWN,
        Reason.ENTRY_NOT_FOUND,
        Reason.DETAILS_MISSING,
        Reason.DETAILS_ERASED,
        Reason.CORRECTION_NOT_FOUND,
        Reason.CONTRACT_UNKNOWN,
        Reason.RECORDS_DESTROYED,
    ),
    grpc.StatusCode.ALREADY_EXISTS: (
        Reason.REPLAYED,
        Reason.CONTRACT_SIGNED_BEFORE,
        Reason.CONTRIBUTION_CONFLICT,
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        Reason.MESSAGE_TOO_LARGE,
        Reason.OVERLOADED,
        Reason.ASKED_RECENTLY,
        Reason.BUDGET_EXHAUSTED,
        Reason.QUOTA_EXHAUSTED,
        Reason.RECIPROCITY_EXHAUSTED,
        Reason.CONTRIBUTION_TOO_LARGE,
    ),
    grpc.StatusCode.UNAVAILABLE: (
        Reason.POLICY_UNAVAILABLE,
        Reason.POLICY_TIMEOUT,
        Reason.POLICY_STALE,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.LIST_UNAVAILABLE,
        Reason.MEMBERS_UNAVAILABLE,
        Reason.LOG_UNAVAILABLE,
        Reason.WITNESS_UNAVAILABLE,
        Reason.DETAILS_UNAVAILABLE,
        Reason.LEDGER_UNAVAILABLE,
        Reason.CORRECTIONS_UNAVAILABLE,
        Reason.CONTRACTS_UNAVAILABLE,
        Reason.CONTRACT_CONTRADICTED,
        Reason.VAULT_UNAVAILABLE,
        Reason.CONTRIBUTION_BUSY,
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Reason.PROVIDER_TIMEOUT,),
    grpc.StatusCode.FAILED_PRECONDITION: (
        Reason.PROVIDER_REFUSED,
        Reason.PROVIDER_SCHEMA,
        Reason.PROVIDER_TOO_MANY_RECORDS,
        Reason.PROVIDER_SIGNATURE,
        Reason.KEY_EPOCH_MISSING,
        Reason.RELEASE_MISMATCH,
        Reason.ACKNOWLEDGEMENT_LATE,
        Reason.ACKNOWLEDGEMENT_OVERDUE,
        Reason.APPROVAL_INVALID,
        Reason.CORRECTIONS_NOT_KEPT,
        Reason.CONTRACT_ALTERED,
        Reason.CONTRACT_OUTDATED,
        Reason.CONTRACT_ORDER,
        Reason.CONTRACT_OVER,
        Reason.BATCH_CLOSED,
        Reason.CONTRIBUTION_MISMATCH,
        Reason.CONTRIBUTION_REJECTED,
    ),
    grpc.StatusCode.CANCELLED: (Reason.CANCELLED, Reason.READER_STALLED, Reason.CONTRIBUTION_ABANDONED),
    grpc.StatusCode.INTERNAL: (Reason.PROOF_INVALID, Reason.INTERNAL),
}

CODES: Final[Mapping[Reason, grpc.StatusCode]] = MappingProxyType(
    {reason: code for code, reasons in _BY_CODE.items() for reason in reasons}
)
"""The gRPC status of each reason. A test checks that every reason has its row."""


_INTERNAL_MESSAGE: Final = "The gateway failed; give the exchange id or the reference to its operator."
"""For faults of our own: what they say (paths, settings) is for the operator, not for callers."""

_INTERNAL_DETAILS: Final = ("exchange", "entry", "reference")
"""What a caller is told of such a fault."""


def to_status(error: GatewayError) -> status_pb2.Status:
    """Return the `google.rpc.Status` of `error`, with its `ErrorInfo`."""
    code = CODES[error.reason]
    message, details = error.message, error.details
    if error.reason is Reason.INTERNAL:
        message = _INTERNAL_MESSAGE
        details = {name: details[name] for name in _INTERNAL_DETAILS if name in details}
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason.value, domain=ERROR_DOMAIN, metadata=details))
    number = code_pb2.Code.Value(code.name)
    return status_pb2.Status(code=number, message=message, details=[info])


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception, method: str = "") -> None:
    """End the call with the status of `error`; what is a fault of ours is told to operators first."""
    if not isinstance(error, GatewayError) or (
        error.reason is Reason.INTERNAL and "reference" not in error.details
    ):
        error = GatewayError(
            _INTERNAL_MESSAGE, reason=Reason.INTERNAL, reference=record_fault(error, method=method)
        )
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
