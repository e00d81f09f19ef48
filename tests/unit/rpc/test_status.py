"""The one table from reasons to statuses, and what of an error reaches a caller."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from gateway.errors import ERROR_DOMAIN, ConfigError, GatewayError, Reason
from gateway.rpc.status import CODES, to_status


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_status(reason: Reason) -> None:
    assert CODES[reason] not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}


def test_an_error_carries_its_reason_and_details() -> None:
    status = to_status(GatewayError("Too old.", reason=Reason.STATEMENT_STALE, limit=5))
    [packed] = status.details
    info = error_details_pb2.ErrorInfo()
    assert packed.Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "STATEMENT_STALE",
        ERROR_DOMAIN,
        {"limit": "5"},
    )
    assert (status.code, status.message) == (grpc.StatusCode.UNAUTHENTICATED.value[0], "Too old.")


def test_a_fault_of_our_own_shows_nothing_of_itself() -> None:
    status = to_status(ConfigError("/srv/keys/tls.key does not belong to /srv/tls/gateway.pem."))
    assert "/srv" not in status.message
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
