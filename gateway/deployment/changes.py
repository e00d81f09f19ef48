"""Administrative changes in the audit log.

Every change is recorded before it takes effect: an entry without its change is a puzzle for an
officer, a change without its entry would be a hole in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Protocol

from gateway.audit.note import Ed25519Signer
from gateway.audit.store import Once
from gateway.audit.stores import open_reader, open_store, require_log
from gateway.audit.writer import AuditLog
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.log_node import log_guards, verified_anchor
from gateway.model import ENTRY_VERSION, Entry, EntryKind


class Append(Protocol):
    """Appends an entry to the log, and returns its index."""

    def __call__(self, entry: Entry, once: Once | None = None) -> int:
        """Append it; raise `LogUnavailableError` and, if `once` was claimed before, `OnceTakenError`."""
        ...


def record_change(
    config: GatewayConfig,
    kind: EntryKind,
    subject: str,
    detail: Mapping[str, str],
    *,
    key_epoch: str = "",
    exchange: str = "",
    bundle: str = "",
    commitments: Mapping[str, str] | None = None,
    once: Once | None = None,
    clock: Clock = system_clock,
    accepts_clock: bool = False,
) -> int:
    """Append the entry of a change to `subject` (a resource name); return the entry's index.

    What is empty in `detail` is left out. With `accepts_clock` a person vouches for the clock as it is: only
    for `clock.jumped`. Raises `ConfigError`, `LogUnavailableError` and, if `once` was claimed before,
    `OnceTakenError`; then nothing may be changed.
    """
    entry = Entry(
        v=ENTRY_VERSION,
        kind=kind,
        time=rfc3339(clock()),
        subject=subject,
        detail={name: value for name, value in detail.items() if value},
        key_epoch=key_epoch,
        exchange=exchange,
        bundle=bundle,
        commitments=dict(commitments or {}),
    )
    return record_entry(config, entry, once=once, clock=clock, accepts_clock=accepts_clock)


def record_entry(
    config: GatewayConfig,
    entry: Entry,
    *,
    once: Once | None = None,
    clock: Clock = system_clock,
    accepts_clock: bool = False,
) -> int:
    """Append `entry` as it is, and raise, as `record_change` does; return its index."""
    with appending(config, clock, accepts_clock=accepts_clock) as append:
        return append(entry, once)


@contextmanager
def appending(config: GatewayConfig, clock: Clock, *, accepts_clock: bool = False) -> Iterator[Append]:
    """Hold the log open; yield what appends an entry and returns its index. Raises as `record_change`."""
    try:
        require_log(config.log.database)
    except ConfigError as error:
        raise ConfigError(f"{error.message} Nothing was changed.") from error
    signer = Ed25519Signer(config.log.origin, SigningKey.load(config.log.key))
    with ExitStack() as opened:
        reader = opened.enter_context(open_reader(config.log.database))
        verified_anchor(config, reader, signer.verifier)
        log = opened.enter_context(
            AuditLog(
                open_store(config.log.database),
                signer,
                origin=config.log.origin,
                clock=clock,
                guards=log_guards(config, reader, accepts_clock=accepts_clock),
            )
        )
        # Readers go first: only the last connection, if it writes, copies the write-ahead log back.
        opened.callback(reader.close)

        def append(entry: Entry, once: Once | None = None) -> int:
            return log.append_sync(entry, once).index

        yield append
