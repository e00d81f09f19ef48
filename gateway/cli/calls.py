"""Calls to a gateway: the client, and what its errors mean to a person at the keyboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.cli.exits import OF_ANSWER, Exit
from gateway.cli.failures import CommandFailed, Failure
from gateway.cli.options import require_file
from gateway.client import Client, ClientError, ReceiptInvalidError, TransportError
from gateway.errors import Reason

_ASK_OPERATOR: Final = "Ask the gateway's operator."
_SEE_CATALOGUE: Final = "See what you may ask for, and how: gateway catalog show DATASET"
_SIGN: Final = (
    "Name your signing key in client.toml, and have its public half registered: "
    "gateway keys register MEMBER PUBLIC.pem"
)
_LATER: Final = "Nothing was released. Try again shortly; if it lasts, ask the gateway's operator."

_ADVICE: Final[Mapping[Reason, str]] = {
    **dict.fromkeys(
        (
            Reason.MEMBER_UNKNOWN,
            Reason.MEMBER_SUSPENDED,
            Reason.CERTIFICATE_INVALID,
            Reason.CERTIFICATE_EXPIRED,
            Reason.ROLE_MISSING,
        ),
        _ASK_OPERATOR,
    ),
    **dict.fromkeys(
        (
            Reason.SIGNATURE_MISSING,
            Reason.SIGNATURE_FOREIGN,
            Reason.SIGNATURE_INVALID,
            Reason.SIGNATURE_REQUIRED,
        ),
        _SIGN,
    ),
    **dict.fromkeys(
        (
            Reason.DATASET_UNKNOWN,
            Reason.FIELD_UNKNOWN,
            Reason.PURPOSE_UNKNOWN,
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
            Reason.FILTER_UNSUPPORTED,
            Reason.OPERATION_NOT_PERMITTED,
            Reason.NOTHING_PERMITTED,
        ),
        _SEE_CATALOGUE,
    ),
    **dict.fromkeys((Reason.CLOCK_SKEW, Reason.STATEMENT_STALE), "Set this machine's clock."),
    Reason.STATEMENT_AUDIENCE: "Take the trust file of the gateway that client.toml names.",
    **dict.fromkeys((reason for reason in Reason if OF_ANSWER[reason.value] is Exit.UNREACHED), _LATER),
}


@contextmanager
def calling(config: Path, dataset: str = "DATASET") -> Iterator[Client]:
    """Yield a client as the file at `config` describes it; its errors leave as `CommandFailed`.

    `dataset` is what the call is about, for the advice.
    """
    require_file(
        config,
        "The client configuration",
        "name it with --config; the operator makes one with `gateway member add`",
    )
    try:
        with Client.from_config(config) as client:
            yield client
    except ClientError as error:
        raise CommandFailed(describe_refusal(error, dataset)) from error


def describe_refusal(error: ClientError, dataset: str) -> Failure:
    """Return what to tell of a call about `dataset` that failed."""
    code, advice = OF_ANSWER.get(error.reason, Exit.NO), ""
    if isinstance(error, TransportError):
        code = Exit.UNREACHED
        advice = (
            "Check that the gateway runs, the address in client.toml, and that neither side's certificate "
            "has expired."
        )
    elif isinstance(error, ReceiptInvalidError):
        code = Exit.UNVERIFIED
        advice = "Do not use the records. Tell your security officer and the gateway's operator."
    elif error.reason in OF_ANSWER:
        advice = _ADVICE.get(Reason(error.reason), "").replace("DATASET", dataset)
    return Failure(
        error.message,
        code,
        reason=error.reason,
        reasons=tuple(filter(None, error.reasons)),
        exchange=error.exchange,
        entry=error.entry,
        advice=advice,
    )
