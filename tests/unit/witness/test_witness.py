from datetime import timedelta

import pytest

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.cosignature import Ed25519CosignatureSigner, MlDsaCosignatureSigner
from gateway.audit.errors import LogUnavailableError
from gateway.audit.note import Ed25519Signer, parse_note, parse_signature_lines, sign_note
from gateway.evidence.keys import SigningKey
from gateway.evidence.ml_dsa import MlDsaSigningKey, is_ml_dsa_available
from gateway.witness.judgement import Answer, SubmissionRefusedError
from gateway.witness.submission import Submission, origin_digest
from gateway.witness.witness import ClockBehindError, Witness

ORIGIN = "audit.example.org/log/2026"


def times_of(witness_signer, note, lines):
    text = parse_note(note).text
    return [
        witness_signer.verifier.cosigned_at_s(text, line.signature) for line in parse_signature_lines(lines)
    ]


def test_a_growing_log_is_cosigned_at_the_time_of_the_clock(witness, log, signer, clock):
    for old, size in ((0, 1), (1, 9), (9, 300)):
        log.grow(size - old)
        lines = witness.add_checkpoint(log.submission(old).to_bytes())
        assert times_of(signer, log.checkpoint(), lines) == [int(clock.now.timestamp())]
        clock.advance(timedelta(seconds=5))


def test_the_same_checkpoint_is_cosigned_again_with_a_newer_time(witness, log, signer, clock):
    log.grow(9)
    witness.add_checkpoint(log.submission(0).to_bytes())
    clock.advance(timedelta(minutes=10))
    lines = witness.add_checkpoint(log.submission(9).to_bytes())
    assert times_of(signer, log.checkpoint(), lines) == [int(clock.now.timestamp())]


def test_the_empty_log_is_cosigned(witness, log):
    assert witness.add_checkpoint(log.submission(0).to_bytes())
    assert witness.add_checkpoint(log.grow(3).submission(0).to_bytes())


def test_an_empty_log_with_another_root_is_unprocessable(witness, log):
    text = log.checkpoint().partition("\n\n")[0].rsplit("\n", 1)[0] + "\n" + "A" * 43 + "=\n"
    body = "old 0\n\n" + sign_note(text, [log.signer])
    with pytest.raises(SubmissionRefusedError) as refusal:
        witness.add_checkpoint(body.encode())
    assert refusal.value.answer == Answer.INCONSISTENT


def test_a_malformed_request_is_refused_as_such(witness, log):
    with pytest.raises(SubmissionRefusedError) as refusal:
        witness.add_checkpoint(b"old 0\n")
    assert refusal.value.answer == Answer.MALFORMED


def test_a_log_of_another_origin_is_unknown_even_under_a_known_key(witness, log):
    text = log.grow(3).checkpoint().partition("\n\n")[0].replace("2026", "2027") + "\n"
    with pytest.raises(SubmissionRefusedError) as refusal:
        witness.add_checkpoint(Submission.of(0, (), sign_note(text, [log.signer])).to_bytes())
    assert refusal.value.answer == Answer.UNKNOWN_LOG


def test_a_refused_submission_changes_nothing(witness, log, state):
    witness.add_checkpoint(log.grow(9).submission(0).to_bytes())
    before = state.latest(ORIGIN)
    for refused in (log.fork(5, 20).submission(9), log.submission(0)):
        with pytest.raises(SubmissionRefusedError):
            witness.add_checkpoint(refused.to_bytes())
    assert state.latest(ORIGIN) == before


def test_a_witness_with_two_keys_gives_two_cosignatures(state, log, signer, clock):
    if not is_ml_dsa_available():
        pytest.skip("this OpenSSL has no ML-DSA")
    second = MlDsaCosignatureSigner(signer.name, MlDsaSigningKey(bytes(32)), clock)
    witness = Witness(state, [signer, second], clock=clock)
    lines = witness.add_checkpoint(log.grow(9).submission(0).to_bytes())
    text = parse_note(log.checkpoint()).text
    first_line, second_line = parse_signature_lines(lines)
    signer.verifier.verify(text, first_line.signature)
    second.verifier.verify(text, second_line.signature)


def test_monitors_see_the_log_s_signatures_and_the_witness_s_and_nothing_else(witness, log, signer):
    stranger = Ed25519Signer.from_seed("stranger.example", bytes(32))
    text = log.grow(9).checkpoint().partition("\n\n")[0] + "\n"
    note = sign_note(text, [stranger, log.signer])
    lines = witness.add_checkpoint(Submission.of(0, (), note).to_bytes())
    shown = witness.checkpoint(origin_digest(ORIGIN))
    assert shown == sign_note(text, [log.signer]) + lines
    assert open_checkpoint(shown, [log.signer.verifier]) == open_checkpoint(
        shown, [signer.verifier], origin=ORIGIN
    )
    assert witness.checkpoint(origin_digest("another.example/log")) is None


def test_a_clock_a_little_behind_repeats_the_last_time(witness, log, signer, clock):
    witness.add_checkpoint(log.grow(9).submission(0).to_bytes())
    last_s = int(clock.now.timestamp())
    clock.advance(timedelta(seconds=-30))
    lines = witness.add_checkpoint(log.grow(9).submission(9).to_bytes())
    assert times_of(signer, log.checkpoint(), lines) == [last_s]


def test_a_clock_far_behind_stops_the_witness(witness, log, clock, state):
    witness.add_checkpoint(log.grow(9).submission(0).to_bytes())
    clock.advance(timedelta(hours=-1))
    with pytest.raises(ClockBehindError):
        witness.add_checkpoint(log.grow(9).submission(9).to_bytes())
    assert state.latest(ORIGIN).head.size == 9


def test_no_cosignature_leaves_when_the_state_cannot_be_written(witness, log, state, clock):
    witness.add_checkpoint(log.grow(9).submission(0).to_bytes())
    state._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(LogUnavailableError):
        witness.add_checkpoint(log.grow(9).submission(9).to_bytes())
    # The connection that failed was given up: the next request finds the file as it is.
    assert witness.add_checkpoint(log.submission(9).to_bytes())


def test_a_witness_has_one_name(state, signer):
    other = Ed25519CosignatureSigner("witness.example.org/w2", SigningKey(bytes(32)))
    with pytest.raises(ValueError, match="one name"):
        Witness(state, [signer, other])
    with pytest.raises(ValueError, match="one name"):
        Witness(state, [])
