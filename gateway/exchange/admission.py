"""Step 1: who calls, and may it call at all."""

from __future__ import annotations

from datetime import datetime

from gateway.errors import GatewayError, Reason
from gateway.exchange.call import Call
from gateway.members import Directory
from gateway.model import Member, Role


def admit(call: Call, directory: Directory, now: datetime, role: Role | None = Role.CONSUMER) -> Member:
    """Return the member that calls.

    gRPC checks a certificate only when the connection is made; its validity, the member's state and
    role (unless None) are checked here on every call. Raises `GatewayError`.
    """
    caller = call.caller
    if caller is None:
        raise call.fault or GatewayError(
            "The connection shows no usable client certificate.", reason=Reason.CERTIFICATE_INVALID
        )
    if now > caller.not_after:
        raise GatewayError(
            "The client certificate has expired; renew it and connect again.",
            reason=Reason.CERTIFICATE_EXPIRED,
        )
    if now < caller.not_before:
        raise GatewayError(
            "The client certificate is not valid yet; check the clocks.",
            reason=Reason.CERTIFICATE_INVALID,
        )
    member = directory.caller(caller.uri)
    if role is not None and role not in member.roles:
        raise GatewayError(
            f"This member does not have the role {role}; ask the operator of the gateway.",
            reason=Reason.ROLE_MISSING,
            role=role.value,
        )
    return member
