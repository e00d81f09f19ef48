"""One exception class for each reason, importable by name."""

from __future__ import annotations

import importlib

import pytest

from gateway.client.errors import ClientError, error_class
from gateway.errors import Reason


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_class_that_can_be_imported_by_name(reason: Reason) -> None:
    found = error_class(reason)
    assert found.reason == reason.value
    assert issubclass(found, ClientError)
    module = importlib.import_module("gateway.client.errors")
    assert getattr(module, found.__name__) is found


def test_an_unknown_reason_is_still_a_client_error() -> None:
    assert error_class("REASON_OF_NEXT_YEAR") is ClientError


def test_no_two_reasons_share_a_class() -> None:
    assert len({error_class(reason) for reason in Reason}) == len(Reason)


def test_details_become_attributes() -> None:
    error = error_class(Reason.FIELD_ABOVE_TIER)(
        "Denied.", code="PERMISSION_DENIED", details={"exchange": "x", "entry": "7", "reasons": "A,B"}
    )
    assert (error.exchange, error.entry, error.reasons) == ("x", 7, ("A", "B"))


def test_a_misspelt_class_does_not_exist() -> None:
    with pytest.raises(AttributeError):
        importlib.import_module("gateway.client.errors").ReplaydError  # noqa: B018
