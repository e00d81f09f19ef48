"""What a witness may cosign (c2sp.org/tlog-witness). Pure: no clock, no store, no key of the witness.

A witness says of one checkpoint at a time that the tree only ever grew: each must extend the one it cosigned
before. All of that is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hmac import compare_digest

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import ConsistencyProofError, NoteError
from gateway.audit.note import Verifier
from gateway.audit.proof import verify_consistency
from gateway.audit.tree import EMPTY_ROOT
from gateway.errors import GatewayError, Reason
from gateway.witness.submission import Submission


class Answer(IntEnum):
    """The HTTP status codes with which a witness refuses."""

    MALFORMED = 400
    SIGNATURE = 403
    UNKNOWN_LOG = 404
    CONFLICT = 409
    INCONSISTENT = 422


class SubmissionRefusedError(GatewayError):
    """A witness must not cosign this. `answer` says why; `size` is what it cosigned last, for a conflict."""

    reason = Reason.PROOF_INVALID

    def __init__(self, answer: Answer, message: str, *, size: int | None = None) -> None:
        super().__init__(message)
        self.answer = answer
        self.size = size


@dataclass(frozen=True, slots=True)
class TreeHead:
    """Size and 32-byte root of the tree that a witness cosigned last; the empty tree if it never did."""

    size: int = 0
    root: bytes = EMPTY_ROOT


def verify_submission(submission: Submission, verifiers: Sequence[Verifier], latest: TreeHead) -> Checkpoint:
    """Return the checkpoint if a witness that cosigned `latest` may cosign it.

    `verifiers` are the keys trusted for the checkpoint's origin. The rules, in the order of the
    specification:

    1. The origin is known: it has at least one key.
    2. A trusted key signed the checkpoint, and no signature by one fails.
    3. The old size is not larger than the checkpoint's.
    4. The old size is that of the latest checkpoint cosigned.
    5. The proof leads from that checkpoint's root to the new one's; it is empty from size 0, and between
       equal sizes, whose roots must be equal.

    Raises `SubmissionRefusedError`.
    """
    checkpoint = submission.checkpoint
    if not verifiers:  # 1
        raise SubmissionRefusedError(
            Answer.UNKNOWN_LOG, "This witness does not know the log; its operator can add it."
        )
    try:
        open_checkpoint(submission.note, verifiers, origin=checkpoint.origin)  # 2
    except NoteError as error:
        raise SubmissionRefusedError(
            Answer.SIGNATURE, "No trusted key of the log has signed the checkpoint, or a signature fails."
        ) from error
    if submission.old_size > checkpoint.size:  # 3
        raise SubmissionRefusedError(Answer.MALFORMED, "The old size is larger than the checkpoint's.")
    if submission.old_size != latest.size:  # 4
        raise SubmissionRefusedError(
            Answer.CONFLICT, "This witness has cosigned another size last.", size=latest.size
        )
    if checkpoint.size == latest.size and not compare_digest(checkpoint.root, latest.root):  # 5
        raise SubmissionRefusedError(
            Answer.INCONSISTENT, "This witness has cosigned another root at this size: the log was forked."
        )
    try:
        verify_consistency(latest.size, latest.root, checkpoint.size, checkpoint.root, submission.hashes)
    except ConsistencyProofError as error:
        raise SubmissionRefusedError(
            Answer.INCONSISTENT, f"The consistency proof does not verify. {error.message}"
        ) from error
    return checkpoint
