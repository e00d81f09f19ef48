"""A witness: cosigns a checkpoint if it extends the last one it cosigned of the same log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.audit.cosignature import CosignatureSigner, LogVerifier
from gateway.audit.errors import EmptyRootError, NoteError
from gateway.audit.note import Note, parse_note
from gateway.clock import Clock, system_clock
from gateway.errors import GatewayError
from gateway.witness.judgement import Answer, SubmissionRefusedError, TreeHead, verify_submission
from gateway.witness.state import Cosigned, WitnessState
from gateway.witness.submission import Submission

CLOCK_TOLERANCE: Final = timedelta(minutes=1)
"""By how much the clock may lie behind the last cosignature; so long the last time is used again."""


class ClockBehindError(GatewayError):
    """The clock lies behind the last cosignature; a new one would say that the tree grew too early."""


class Witness:
    """The witness that signs with `signers`, all under one name, and remembers in `state`.

    Safe from any thread.
    """

    def __init__(
        self, state: WitnessState, signers: Sequence[CosignatureSigner], *, clock: Clock = system_clock
    ) -> None:
        """Take the keys; raise `ValueError` unless there is at least one and all have one name."""
        if len({signer.name for signer in signers}) != 1:
            raise ValueError("a witness has one name, and at least one key")
        self.name = signers[0].name
        self.vkeys = tuple(signer.verifier.vkey() for signer in signers)
        self._state = state
        self._signers = tuple(signers)
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> str:
        """Return the cosignature lines for the submission in `body`; the state behind them is durable.

        Raises `SubmissionRefusedError`, `ClockBehindError`, and `LogUnavailableError` if the state cannot be
        written: then no cosignature has left.
        """
        submission = _parse(body)
        origin = submission.checkpoint.origin
        verifiers = self._state.verifiers(origin)
        lines = ""

        def decide(latest: Cosigned) -> Cosigned:
            nonlocal lines
            checkpoint = verify_submission(submission, verifiers, latest.head)
            note = parse_note(submission.note)
            moment = self._moment(latest)
            lines = "".join(signer.cosign(note.text, moment) for signer in self._signers)
            kept = note.text + "\n" + _lines_of(note, verifiers) + lines
            return Cosigned(TreeHead(checkpoint.size, checkpoint.root), int(moment.timestamp()), kept)

        self._state.advance(origin, decide)
        return lines

    def checkpoint(self, digest: str) -> str | None:
        """Return the latest cosigned checkpoint of the log whose origin has this SHA-256 (hex), if any."""
        return self._state.note(digest)

    def _moment(self, latest: Cosigned) -> datetime:
        now, last = self._clock(), datetime.fromtimestamp(latest.time_s, UTC)
        if now < last - CLOCK_TOLERANCE:
            raise ClockBehindError("The witness's clock lies behind its last cosignature; set it right.")
        return max(now, last)


def _parse(body: bytes) -> Submission:
    try:
        return Submission.parse(body)
    except EmptyRootError as error:
        raise SubmissionRefusedError(Answer.INCONSISTENT, error.message) from error
    except NoteError as error:
        raise SubmissionRefusedError(Answer.MALFORMED, error.message) from error


def _lines_of(note: Note, verifiers: Sequence[LogVerifier]) -> str:
    """Return the signature lines by the log's keys, each of which has been verified."""
    known = {(verifier.name, verifier.key_id) for verifier in verifiers}
    return "".join(item.line() for item in note.signatures if (item.name, item.key_id) in known)
