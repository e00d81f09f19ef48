"""Checkpoints (c2sp.org/tlog-checkpoint): the log's origin, size and root as a signed note."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.audit.errors import EmptyRootError, NoteError, NoteSignatureError
from gateway.audit.note import Signer, Verifier, open_note, sign_note
from gateway.audit.tree import EMPTY_ROOT, HASH_BYTES, MAX_SIZE
from gateway.evidence.dsse import from_base64

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log at one size."""

    origin: str
    """Names the log, such as `audit.example.org/log/2026`."""
    size: int
    root: bytes
    """The root of the first `size` leaves, 32 bytes."""
    extensions: tuple[str, ...] = ()
    """Lines after the root. We write none; those of other logs are kept and mean nothing to us."""

    def to_text(self) -> str:
        """Return the note text, ending in a newline."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "\n".join(lines) + "\n"


def parse_decimal(text: str) -> int:
    """Return the number that `text` writes in decimal without leading zeros, at most 2^63-1.

    Raises `NoteError`.
    """
    if _DECIMAL.fullmatch(text) is None or (number := int(text)) > MAX_SIZE:
        raise NoteError("A tree size or index is a decimal number without leading zeros, below 2^63.")
    return number


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's note text, strictly; raise `NoteError`. Nothing is verified."""
    if not text.endswith("\n"):
        raise NoteError("A checkpoint ends in a newline.")
    lines = text[:-1].split("\n")
    if len(lines) < _LINES or not all(lines):
        raise NoteError("A checkpoint has three lines: origin, size and root hash.")
    origin, size_text, root_text, *extensions = lines
    size = parse_decimal(size_text)
    try:
        root = from_base64(root_text, length=HASH_BYTES)
    except ValueError as error:
        raise NoteError("The root hash of a checkpoint is 32 bytes in base64.") from error
    if size == 0 and root != EMPTY_ROOT:
        raise EmptyRootError("A checkpoint of size 0 has the root of the empty tree.")
    return Checkpoint(origin, size, root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """Return the checkpoint as a note signed by `signer`.

    The signer's key must be named as the log's origin; raises `NoteError` otherwise.
    """
    if signer.name != checkpoint.origin:
        raise NoteError("The log's key must be named as the log's origin.")
    return sign_note(checkpoint.to_text(), [signer])


def open_checkpoint(note: str, verifiers: Iterable[Verifier], *, origin: str | None = None) -> Checkpoint:
    """Return the checkpoint in `note` once one of `verifiers` is found to have signed it.

    The checkpoint must be of the log `origin`; without it, of the log whose origin is the name of a
    key that signed. So a checkpoint of one log is never taken for another's that shares a verifier.
    Raises `NoteError` and `NoteSignatureError`.
    """
    text, signed_by = open_note(note, verifiers)
    checkpoint = parse_checkpoint(text)
    allowed = {verifier.name for verifier in signed_by} if origin is None else {origin}
    if checkpoint.origin not in allowed:
        raise NoteSignatureError("The checkpoint is of another log than the one expected.")
    return checkpoint
