"""The text with which a log asks a witness for its cosignature (c2sp.org/tlog-witness, add-checkpoint)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from gateway.audit.checkpoint import Checkpoint, parse_checkpoint, parse_decimal
from gateway.audit.errors import NoteError
from gateway.audit.note import parse_note
from gateway.audit.proof import MAX_PROOF_HASHES
from gateway.audit.tree import HASH_BYTES
from gateway.evidence.dsse import from_base64

MAX_SUBMISSION_BYTES: Final = 128 * 1024
"""Room for 63 hashes and a checkpoint with 16 post-quantum signatures of almost 5 kB, which every
verifier of notes must accept."""

SIZE_MEDIA_TYPE: Final = "text/x.tlog.size"
"""Of the answer 409 whose body is the size that the witness has cosigned last."""

_OLD: Final = "old "


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint, and the proof that it extends the one the witness cosigned last. Nothing is verified."""

    old_size: int
    hashes: tuple[bytes, ...]
    """Consistency proof, 32 bytes each (RFC 6962 section 2.1.2)."""
    note: str
    checkpoint: Checkpoint
    """What stands in the note."""

    def to_bytes(self) -> bytes:
        """Return the request's body."""
        lines = [f"{_OLD}{self.old_size}", *(base64.b64encode(item).decode() for item in self.hashes)]
        return ("\n".join(lines) + "\n\n" + self.note).encode()

    @classmethod
    def of(cls, old_size: int, hashes: tuple[bytes, ...], note: str) -> Submission:
        """Return the submission of the checkpoint in `note`; raise `NoteError` if there is none in it."""
        return cls(old_size, hashes, note, parse_checkpoint(parse_note(note).text))

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Read a request's body, strictly; raise `NoteError`."""
        if len(body) > MAX_SUBMISSION_BYTES:
            raise NoteError("The request is too large.", limit=MAX_SUBMISSION_BYTES)
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise NoteError("The request is not UTF-8 text.") from error
        head, blank, note = text.partition("\n\n")
        first, *lines = head.split("\n")
        if not blank or not first.startswith(_OLD):
            raise NoteError("The request is an old size line, proof lines, an empty line and a checkpoint.")
        old_size = parse_decimal(first.removeprefix(_OLD))
        if len(lines) > MAX_PROOF_HASHES:
            raise NoteError("A consistency proof has at most 63 hashes.")
        try:
            hashes = tuple(from_base64(line, length=HASH_BYTES) for line in lines)
        except ValueError as error:
            raise NoteError("The hashes of a proof are 32 bytes in base64, one on each line.") from error
        return cls.of(old_size, hashes, note)


def parse_size(body: bytes) -> int:
    """Return the size in the body of a 409 of type `SIZE_MEDIA_TYPE`; raise `NoteError`."""
    text = body.decode("ascii", errors="replace")
    if not text.endswith("\n"):
        raise NoteError("A tree size ends in a newline.")
    return parse_decimal(text[:-1])


def origin_digest(origin: str) -> str:
    """Return the name under which a witness serves the latest checkpoint of `origin`: SHA-256 in hex."""
    return sha256(origin.encode()).hexdigest()


def checkpoint_path(origin: str) -> str:
    """Return the path, under the monitoring prefix, of the latest checkpoint cosigned for `origin`."""
    return f"{origin_digest(origin)}/checkpoint"
