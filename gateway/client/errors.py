"""What a call can fail with: one exception class for each reason code.

ClientError
├── TransportError              the gateway was not reached, or did not answer in time
├── ReceiptInvalidError         the answer does not prove what it must
└── <Reason>Error               one for each `gateway.errors.Reason`, such as ReplayedError
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gateway.errors import ERROR_DOMAIN, GatewayError, Reason


class ClientError(Exception):
    """A call failed. `reason` is the code, `exchange` and `entry` say where the log tells of it."""

    reason: str = ""

    def __init__(self, message: str, *, code: str = "", details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        """Name of the gRPC status."""
        self.details = dict(details or {})
        self.exchange = self.details.get("exchange", "")
        self.entry = int(self.details["entry"]) if "entry" in self.details else None

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same call may succeed later, by itself: the gateway was not reached, or not able."""
        return isinstance(self, TransportError) or self.code == grpc.StatusCode.UNAVAILABLE.name

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons policy gave, or the one reason there is."""
        return tuple(self.details.get("reasons", self.reason).split(","))


class TransportError(ClientError):
    """No answer of the gateway: not reached, cut, or too late."""


class ReceiptInvalidError(ClientError):
    """The gateway's answer does not carry a receipt that holds. Do not use the records."""

    reason = "RECEIPT_INVALID"


def _class_name(reason: Reason) -> str:
    return "".join(word.capitalize() for word in reason.value.split("_")) + "Error"


_CLASSES: Final[Mapping[str, type[ClientError]]] = {
    reason.value: type(_class_name(reason), (ClientError,), {"reason": reason.value, "__module__": __name__})
    for reason in Reason
}
globals().update({error.__name__: error for error in _CLASSES.values()})


def __getattr__(name: str) -> Any:
    """Tell type checkers that the classes above exist; at run time they are found before this."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def error_class(reason: Reason | str) -> type[ClientError]:
    """Return the exception class of `reason`; `ClientError` for a code this release does not know."""
    return _CLASSES.get(str(reason), ClientError)


def from_rpc_error(error: grpc.aio.AioRpcError) -> ClientError:
    """Return the exception for a failed call."""
    code = error.code().name
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return error_class(info.reason)(status.message, code=code, details=dict(info.metadata))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TransportError("The gateway did not answer before the deadline.", code=code)
    return TransportError(f"The gateway could not be reached, or broke off ({code}).", code=code)


def invalid(error: GatewayError) -> ReceiptInvalidError:
    """Return the exception for an answer whose receipt does not verify."""
    return ReceiptInvalidError(f"The answer's receipt does not hold: {error.message}")
