import base64

import pytest

from gateway.audit.errors import NoteError
from gateway.witness.submission import MAX_SUBMISSION_BYTES, Submission, checkpoint_path, parse_size


def test_a_submission_is_read_back_as_it_was_written(log):
    submission = log.grow(300).submission(7)
    assert Submission.parse(submission.to_bytes()) == submission
    assert len(submission.hashes) > 1


def test_the_first_submission_has_no_proof(log):
    body = log.grow(1).submission(0).to_bytes()
    assert body.startswith(b"old 0\n\naudit.example.org/log/2026\n1\n")


HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "head",
    [
        "",
        "0",
        "old",
        "old ",
        "old -1",
        "old +1",
        "old 01",
        "old  1",
        "old 1 ",
        "OLD 1",
        "old 9223372036854775808",
        "old \u0661",
        f"old 1\n{HASH} ",
        f"old 1\n{HASH[:-1]}",
        f"old 1\n{HASH[:-2]}B=",
        "old 1\nAAAA",
        "old 1\r",
        "old 1" + f"\n{HASH}" * 64,
    ],
)
def test_a_malformed_head_is_refused(log, head):
    note = log.grow(3).checkpoint()
    assert Submission.parse(f"old 1\n{HASH}\n\n{note}".encode()).old_size == 1  # the control
    with pytest.raises(NoteError):
        Submission.parse(f"{head}\n\n{note}".encode())


def test_sixty_three_hashes_are_accepted(log):
    body = f"old 1{f'{chr(10)}{HASH}' * 63}\n\n{log.grow(3).checkpoint()}"
    assert len(Submission.parse(body.encode()).hashes) == 63


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body + b" " * MAX_SUBMISSION_BYTES,
        lambda body: body.replace(b"\n\n", b"\n", 1),
        lambda body: body[:-1],
        lambda body: b"\xff" + body,
        lambda body: body.replace(b"\n3\n", b"\n03\n"),
        lambda body: body.partition(b"\n\n")[0] + b"\n\n",
    ],
    ids=["long", "no blank line", "no newline", "no UTF-8", "size", "no checkpoint"],
)
def test_a_malformed_body_is_refused(log, spoil):
    with pytest.raises(NoteError):
        Submission.parse(spoil(log.grow(3).submission(1).to_bytes()))


@pytest.mark.parametrize(
    ("body", "size"), [(b"0\n", 0), (b"50\n", 50), (b"9223372036854775807\n", 2**63 - 1)]
)
def test_a_size_is_read(body, size):
    assert parse_size(body) == size


@pytest.mark.parametrize(
    "body", [b"", b"\n", b"50", b"050\n", b"5\n\n", b"-1\n", b"\xb2\n", b"9223372036854775808\n"]
)
def test_a_malformed_size_is_refused(body):
    with pytest.raises(NoteError):
        parse_size(body)


def test_the_monitoring_path_is_the_digest_of_the_origin():
    # printf 'audit.example.org/log/2026' | sha256sum
    digest = "ffb409ca808d9145299bcdc867d52caa1ceaffc0d9cc7620321dcc93a2785ba6"
    assert checkpoint_path("audit.example.org/log/2026") == f"{digest}/checkpoint"
