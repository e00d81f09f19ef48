import pytest

from gateway.audit.note import Ed25519Signer, sign_note
from gateway.witness.judgement import Answer, SubmissionRefusedError, TreeHead, verify_submission
from gateway.witness.submission import Submission


def judge(log, submission, latest_size=0, verifiers=None):
    head = TreeHead(latest_size, log.root(latest_size))
    return verify_submission(submission, verifiers or [log.signer.verifier], head)


def refusal_of(*arguments, **options):
    with pytest.raises(SubmissionRefusedError) as refusal:
        judge(*arguments, **options)
    return refusal.value


@pytest.mark.parametrize(
    ("old", "size"), [(0, 0), (0, 1), (0, 9), (1, 1), (1, 2), (7, 300), (256, 257), (300, 300)]
)
def test_a_tree_that_grew_may_be_cosigned(log, old, size):
    assert judge(log.grow(300), log.submission(old, size), old).size == size


def test_a_log_without_keys_is_unknown(log):
    with pytest.raises(SubmissionRefusedError) as refusal:
        verify_submission(log.grow(3).submission(0), [], TreeHead())
    assert refusal.value.answer == Answer.UNKNOWN_LOG == 404


def test_a_checkpoint_by_an_unknown_key_is_forbidden(log):
    stranger = Ed25519Signer.from_seed(log.signer.name, bytes(32)).verifier
    assert refusal_of(log.grow(3), log.submission(0), verifiers=[stranger]).answer == Answer.SIGNATURE == 403


def test_a_checkpoint_with_a_failing_signature_of_a_known_key_is_forbidden(log):
    other = Ed25519Signer.from_seed(log.signer.name, bytes(32))
    log.grow(3)
    text = log.checkpoint().partition("\n\n")[0] + "\n"
    wrong = sign_note(text.replace("\n3\n", "\n2\n"), [other]).partition("\n\n")[2]
    note = sign_note(text, [log.signer]) + wrong
    both = [log.signer.verifier, other.verifier]
    assert judge(log, Submission.of(0, (), note)).size == 3  # the control: to who does not know the other
    assert refusal_of(log, Submission.of(0, (), note), verifiers=both).answer == Answer.SIGNATURE


def test_the_name_of_a_trusted_key_may_differ_from_the_origin(log):
    text = log.grow(3).checkpoint().partition("\n\n")[0].replace("2026", "2027") + "\n"
    submission = Submission.of(0, (), sign_note(text, [log.signer]))
    checkpoint = verify_submission(submission, [log.signer.verifier], TreeHead())
    assert checkpoint.origin == "audit.example.org/log/2027" != log.signer.name


def test_an_old_size_above_the_checkpoint_s_is_malformed(log):
    submission = Submission.of(5, (), log.grow(3).checkpoint())
    assert refusal_of(log, submission).answer == Answer.MALFORMED == 400


@pytest.mark.parametrize("old", [0, 1, 2, 4])
def test_another_old_size_is_a_conflict_that_names_the_size(log, old):
    refused = refusal_of(log.grow(9), log.submission(old), 3)
    assert (refused.answer, refused.size) == (Answer.CONFLICT, 3)
    assert judge(log, log.submission(3), 3).size == 9  # the control


@pytest.mark.parametrize("change", ["missing", "surplus", "wrong", "swapped"])
def test_a_wrong_proof_is_unprocessable(log, change):
    proof = log.grow(300).proof(7, 300)
    spoilt = {
        "missing": proof[:-1],
        "surplus": (*proof, bytes(32)),
        "wrong": (bytes(32), *proof[1:]),
        "swapped": (proof[1], proof[0], *proof[2:]),
    }[change]
    assert judge(log, Submission.of(7, proof, log.checkpoint()), 7).size == 300  # the control
    refused = refusal_of(log, Submission.of(7, spoilt, log.checkpoint()), 7)
    assert (refused.answer, refused.size) == (Answer.INCONSISTENT, None)


def test_a_proof_from_size_0_is_unprocessable(log):
    submission = Submission.of(0, (bytes(32),), log.grow(3).checkpoint())
    assert refusal_of(log, submission).answer == Answer.INCONSISTENT


def test_a_proof_between_equal_sizes_is_unprocessable(log):
    submission = Submission.of(3, (bytes(32),), log.grow(3).checkpoint())
    assert refusal_of(log, submission, 3).answer == Answer.INCONSISTENT


def test_another_root_at_the_same_size_is_unprocessable(log):
    log.grow(9)
    fork = log.fork(5, 4)
    refused = refusal_of(log, fork.submission(9), 9)
    assert (refused.answer, refused.size) == (Answer.INCONSISTENT, None)


def test_a_fork_is_unprocessable_from_wherever_it_proves(log):
    log.grow(9)
    fork = log.fork(5, 20)
    assert judge(log, log.grow(16).submission(9), 9).size == 25  # the control: the true branch
    assert refusal_of(log, fork.submission(9), 9).answer == Answer.INCONSISTENT
    assert refusal_of(log, fork.submission(5), 9).answer == Answer.CONFLICT
