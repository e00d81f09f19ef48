"""Exit codes of every command. They are public interface; docs/cli.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from gateway.audit.errors import LogClosedError, LogMismatchError
from gateway.errors import ConfigError, GatewayError, Reason


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    NO = 1
    """The answer is no: denied, no match, not found, cannot be served."""
    USAGE = 2
    """The command line, a file that it names, or the configuration is wrong."""
    UNVERIFIED = 3
    """A receipt, a proof or the audit log does not verify."""
    UNREACHED = 4
    """The gateway, the log or a provider was not reached in time; trying again may help."""
    INTERNAL = 5
    """A fault of this product."""


_REFUSED_AS_MALFORMED: Final = (
    Reason.REQUEST_MALFORMED,
    Reason.MESSAGE_TOO_LARGE,
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
)
_UNREACHED: Final = (
    Reason.POLICY_TIMEOUT,
    Reason.POLICY_UNAVAILABLE,
    Reason.POLICY_STALE,
    Reason.PROVIDER_UNAVAILABLE,
    Reason.PROVIDER_TIMEOUT,
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
    Reason.OVERLOADED,
    Reason.CANCELLED,
)
_UNVERIFIED: Final = (
    Reason.SIGNATURE_MISSING,
    Reason.SIGNATURE_INVALID,
    Reason.SIGNATURE_FOREIGN,
    Reason.PROOF_INVALID,
    Reason.PROVIDER_SIGNATURE,
    Reason.APPROVAL_INVALID,
)

OF_ANSWER: Final[Mapping[str, Exit]] = MappingProxyType(
    {
        **dict.fromkeys((reason.value for reason in Reason), Exit.NO),
        **dict.fromkeys((reason.value for reason in _REFUSED_AS_MALFORMED), Exit.USAGE),
        **dict.fromkeys((reason.value for reason in _UNREACHED), Exit.UNREACHED),
        Reason.INTERNAL.value: Exit.INTERNAL,
    }
)
"""The exit code for each reason with which a gateway may refuse a call."""


def exit_of(error: GatewayError) -> Exit:
    """Return the exit code for an error raised on this side, without a gateway."""
    if isinstance(error, LogMismatchError) or error.reason in _UNVERIFIED:
        return Exit.UNVERIFIED
    if isinstance(error, ConfigError | LogClosedError):
        return Exit.USAGE
    if error.reason in _UNREACHED:
        return Exit.UNREACHED
    # What is left speaks of files that this side was given: certificates, policies, settings.
    return _OF_LOCAL.get(error.reason, Exit.USAGE)


_OF_LOCAL: Final = {
    Reason.INTERNAL: Exit.INTERNAL,
    Reason.ENTRY_NOT_FOUND: Exit.NO,
    Reason.CORRECTION_NOT_FOUND: Exit.NO,
    Reason.DETAILS_MISSING: Exit.NO,
    Reason.DETAILS_ERASED: Exit.NO,
    Reason.RECORDS_DESTROYED: Exit.NO,
}
