"""What a refused or failed call means at the keyboard."""

import pytest

from gateway.cli.calls import describe_refusal
from gateway.cli.exits import Exit
from gateway.client import ClientError, ReceiptInvalidError, TransportError, error_class
from gateway.errors import Reason


def describe(error):
    return describe_refusal(error, "members/registry/datasets/companies")


def test_an_answer_without_a_good_receipt_must_not_be_used():
    failure = describe(ReceiptInvalidError("The answer's receipt does not hold."))
    assert failure.code is Exit.UNVERIFIED
    assert "Do not use the records" in failure.advice


def test_a_gateway_that_is_not_reached_is_code_4():
    failure = describe(TransportError("Not reached.", code="UNAVAILABLE"))
    assert failure.code is Exit.UNREACHED
    assert "client.toml" in failure.advice


def test_a_denial_tells_all_reasons_and_where_the_log_tells_of_it():
    error = error_class(Reason.FIELD_ABOVE_TIER)(
        "Denied.",
        details={"reasons": "FIELD_ABOVE_TIER,LEGAL_BASIS_MISSING", "exchange": "0199", "entry": "7"},
    )
    failure = describe(error)
    assert failure.code is Exit.NO
    assert failure.reasons == ("FIELD_ABOVE_TIER", "LEGAL_BASIS_MISSING")
    assert (failure.exchange, failure.entry) == ("0199", 7)
    assert failure.advice.endswith("gateway catalog show members/registry/datasets/companies")


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.MEMBER_SUSPENDED, Exit.NO),
        (Reason.REPLAYED, Exit.NO),
        (Reason.SIGNATURE_FOREIGN, Exit.NO),
        (Reason.IDENTIFIER_INVALID, Exit.USAGE),
        (Reason.LOG_UNAVAILABLE, Exit.UNREACHED),
        (Reason.PROVIDER_TIMEOUT, Exit.UNREACHED),
        (Reason.INTERNAL, Exit.INTERNAL),
    ],
)
def test_a_gateways_reason_decides_the_exit_code(reason, code):
    assert describe(error_class(reason)("Told.")).code is code


def test_a_reason_of_a_newer_gateway_is_a_no():
    class NewerError(ClientError):
        reason = "MOON_NOT_FULL"

    failure = describe(NewerError("Wait."))
    assert (failure.code, failure.reason, failure.advice) == (Exit.NO, "MOON_NOT_FULL", "")
