"""From gRPC's view of a call to ours: peer certificate, deadline, body.

Request bodies reach the servicers as bytes, so that what is malformed, too large or smuggled in can
be refused by us, with a reason and an entry in the log, and not by the library without either.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from gateway.errors import GatewayError, Reason
from gateway.exchange.call import Call, Caller
from gateway.pki.certificates import parse_peer_certificate

MAX_REQUEST_BYTES: Final = 128 * 1024
"""A request is an envelope (at most 64 KiB of payload) and little else."""

MIN_TIMEOUT_S: Final = 0.02
"""With less time than this left nothing can be answered; the work would be for nobody."""
MAX_TIMEOUT_S: Final = 3600.0
"""A caller that asks for longer has no deadline but a mistake in its units."""

_REQUIRED_TLS: Final = b"TLSv1.3"

_Message = TypeVar("_Message", bound=Message)


def describe_call(context: grpc.aio.ServicerContext[Any, Any], body: bytes, max_timeout_s: float) -> Call:
    """Return the call as the use cases see it; what is wrong with it stands in `fault`.

    The deadline is clamped to `max_timeout_s`.
    """
    caller, fault = None, None
    timeout_s = 0.0
    try:
        caller = _caller(context)
        timeout_s = min(_timeout_s(context), max_timeout_s)
    except GatewayError as error:
        fault = error
    return Call(caller, timeout_s, fault, len(body))


def parse_request(body: bytes, message_type: type[_Message], max_bytes: int = MAX_REQUEST_BYTES) -> _Message:
    """Parse `body`, at most `max_bytes` of it, strictly.

    Unknown fields, repeated singular fields and other surplus bytes are refused: every byte that was
    sent is a byte that was understood. Raises `GatewayError`.
    """
    if len(body) > max_bytes:
        raise GatewayError(
            f"A request has at most {max_bytes} bytes.",
            reason=Reason.MESSAGE_TOO_LARGE,
            limit=max_bytes,
        )
    try:
        message = message_type.FromString(body)
        message.DiscardUnknownFields()
    except (DecodeError, RecursionError) as error:
        raise GatewayError(
            "The request is not a message of the type this method takes.",
            reason=Reason.REQUEST_MALFORMED,
        ) from error
    if message.ByteSize() != len(body):
        raise GatewayError(
            "The request has fields that this version does not know, or has a field twice; "
            "use the published proto files.",
            reason=Reason.REQUEST_MALFORMED,
        )
    return message


def _caller(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    authentication = context.auth_context()
    if authentication.get("ssl_tls_version") != [_REQUIRED_TLS]:
        raise GatewayError("TLS 1.3 is required.", reason=Reason.CERTIFICATE_INVALID)
    pem = next(iter(authentication.get("x509_pem_cert") or ()), None)
    if pem is None:
        raise GatewayError("A client certificate is required.", reason=Reason.CERTIFICATE_INVALID)
    certificate = parse_peer_certificate(pem)
    return Caller(certificate.uri, certificate.not_before, certificate.not_after, certificate.fingerprint)


def _timeout_s(context: grpc.aio.ServicerContext[Any, Any]) -> float:
    timeout_s = context.time_remaining()
    if timeout_s is None:
        raise GatewayError(
            "Every call needs a deadline; set one (the client library does so by itself).",
            reason=Reason.DEADLINE_MISSING,
        )
    if timeout_s > MAX_TIMEOUT_S:
        raise GatewayError(
            f"The deadline is more than {MAX_TIMEOUT_S:.0f} seconds away; check its unit.",
            reason=Reason.DEADLINE_INVALID,
            limit=int(MAX_TIMEOUT_S),
        )
    if timeout_s < MIN_TIMEOUT_S:
        raise GatewayError(
            "The deadline leaves no time to answer; allow at least a tenth of a second.",
            reason=Reason.DEADLINE_INVALID,
        )
    return float(timeout_s)
