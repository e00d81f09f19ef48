"""The logs of the audit tests."""

from tests.unit.audit.conftest import (  # noqa: F401 - fixtures
    clock,
    fill,
    identity,
    make_entry,
    open_log,
    path,
    signer,
    tamper,
)
