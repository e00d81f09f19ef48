"""The anchor: the last checkpoint seen, in a small file of its own, away from the log.

Yesterday's copy of the log agrees with itself and with its key. Who puts it in place of today's is found
at the next start by the anchor, if it does not lie in the same folder, without asking any witness.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import (
    EntryNotFoundError,
    LogForkedError,
    LogMismatchError,
    LogRolledBackError,
    NoteError,
)
from gateway.audit.note import MAX_NOTE_CHARACTERS, Ed25519Verifier
from gateway.audit.prover import TreeHashes
from gateway.audit.store import AuditReader
from gateway.errors import ConfigError

_ADVICE: Final = (
    "Put the newest copy of the log in its place. If there is none, keep this one for reading, and begin a "
    "new log under a new origin: what this one would sign now, receipts already disprove."
)


class Anchor:
    """A file that holds the last checkpoint seen of one log, as the signed note. Blocks."""

    def __init__(self, path: Path, verifier: Ed25519Verifier) -> None:
        self.path = path
        self._verifier = verifier

    def verify(self, reader: AuditReader) -> Checkpoint:
        """Raise unless the log goes on from the anchor; return the anchor's checkpoint.

        Raises `LogRolledBackError` if the log is shorter, `LogForkedError` if it is another, and
        `ConfigError` if there is no anchor or it is none of this log.
        """
        anchored = self.read()
        size = reader.size()
        if size < anchored.size:
            raise LogRolledBackError(
                f"The audit log has {size} entries, and its anchor {self.path} saw {anchored.size}: this is "
                f"an older copy. {_ADVICE}",
                size=size,
                anchored=anchored.size,
            )
        try:
            root = TreeHashes(reader, anchored.size).frontier().root()
        except (EntryNotFoundError, ValueError) as error:
            raise LogMismatchError("The audit log is damaged; run `gateway audit fsck`.") from error
        if root != anchored.root:
            raise LogForkedError(
                f"The first {anchored.size} entries of the audit log are not those that its anchor "
                f"{self.path} saw. {_ADVICE}",
                anchored=anchored.size,
            )
        return anchored

    def read(self) -> Checkpoint:
        """Return the checkpoint in the file; raise `ConfigError` if it is missing or none of this log."""
        try:
            note = self.path.read_bytes()[: MAX_NOTE_CHARACTERS + 1].decode()
            return open_checkpoint(note, [self._verifier], origin=self._verifier.name)
        except FileNotFoundError as error:
            raise ConfigError(
                f"The log's anchor {self.path} is missing. If `log.anchor` is new, make it with "
                "`gateway audit anchor`; if not, somebody has removed it: compare the log with receipts and "
                "witnesses first."
            ) from error
        except OSError as error:
            raise ConfigError(f"The log's anchor {self.path} cannot be read ({error.strerror}).") from error
        except (NoteError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The log's anchor {self.path} is no checkpoint of this log; was it changed, or is it of "
                "another log? Compare the log with receipts and witnesses before making it anew."
            ) from error

    def write(self, note: str) -> None:
        """Put `note` in the file's place, durably and in one step; raise `OSError`."""
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(note)
                file.flush()
                os.fsync(descriptor)
            fresh.replace(self.path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
