"""Notes, cosignatures, proofs, submissions and policies, altered: none is accepted.

The number of alterations is scaled by SLUICEGATE_FAULT_SCALE (above ten thousand in a normal run).
"""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from gateway.audit.cosignature import Ed25519CosignatureSigner, MlDsaCosignatureSigner, cosigner_of
from gateway.audit.errors import NoteError, ProofError, WitnessPolicyError
from gateway.audit.note import Ed25519Signer, parse_signature_lines, sign_note
from gateway.audit.proof import TlogProof
from gateway.audit.tree import Frontier, append, leaf_hash
from gateway.audit.witness_policy import WitnessPolicy
from gateway.clock import FixedClock
from gateway.evidence.keys import SigningKey
from gateway.evidence.ml_dsa import MlDsaSigningKey, is_ml_dsa_available
from gateway.witness.judgement import SubmissionRefusedError, TreeHead, verify_submission
from gateway.witness.submission import Submission, parse_size
from tests.simulators.campaign import scaled

ALTERATIONS = scaled(3000, 100_000)
"""Of each kind of text; there are five kinds."""

LOG = Ed25519Signer.from_seed("audit.example.org/log/2026", bytes(range(32)))
CLOCK = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
LEAVES = [leaf_hash(bytes([number])) for number in range(13)]
BATCH = append(Frontier(), LEAVES)
EARLIER = append(Frontier(), LEAVES[:5])
WITNESSES = [Ed25519CosignatureSigner("w1.example", SigningKey(bytes([1]) * 32), CLOCK)]
if is_ml_dsa_available():
    WITNESSES.append(MlDsaCosignatureSigner("w2.example", MlDsaSigningKey(bytes(32)), CLOCK))
LOG_NOTE = sign_checkpoint(Checkpoint(LOG.name, 13, BATCH.root), LOG)
TEXT = LOG_NOTE.partition("\n\n")[0] + "\n"
NOTE = sign_note(TEXT, [LOG, *WITNESSES])
POLICY = WitnessPolicy.parse(
    "".join(
        [f"log {LOG.verifier.vkey()}\n"]
        + [f"witness w{at} {item.verifier.vkey()}\n" for at, item in enumerate(WITNESSES)]
        + [f"group g all {' '.join(f'w{at}' for at in range(len(WITNESSES)))}\nquorum g\n"]
    ).encode()
)
PROOF = TlogProof(11, BATCH.inclusion_proof(11), NOTE).to_text()

INSERTED = ["", "\n", "\n\n", " ", "\t", "\r", "\x00", "0", "1", "A", "=", "+", "—", "é", "\ud800", "old 5\n"]


def alter(text, chance):
    """Return the text with one thing changed: a character, a piece cut, doubled, moved, or put in."""
    while True:
        at, end = sorted((chance.randrange(len(text)), chance.randrange(len(text) + 1)))
        piece = text[at:end]
        match chance.randrange(7):
            case 0 | 1 | 2:
                altered = text[:at] + chr(ord(text[at]) ^ 1 << chance.randrange(7)) + text[at + 1 :]
            case 3:
                altered = text[:at] + chance.choice(INSERTED) + text[at:]
            case 4:
                altered = text[:at] + text[at + 1 + chance.randrange(3) :]
            case 5:
                altered = text[:at] + text[end:]
            case _:
                altered = text[:at] + piece + text[at:]
        if altered != text:
            return altered


def same_evidence(altered):
    """Whether the alteration left everything that counts: lines doubled, or by keys nobody knows."""
    lines = NOTE.partition("\n\n")[2].splitlines(keepends=True)
    body, blank, tail = altered.rpartition("\n\n")
    return blank and body + "\n" == TEXT and set(lines) <= set(tail.splitlines(keepends=True))


def test_no_altered_note_is_accepted():
    POLICY.verify(NOTE)  # the control
    chance = random.Random(1)
    for _ in range(ALTERATIONS):
        altered = alter(NOTE, chance)
        if same_evidence(altered):
            continue
        with pytest.raises((NoteError, ProofError)):
            POLICY.verify(altered)


def test_no_altered_proof_is_accepted():
    leaf = LEAVES[11]

    def check(text):
        proof = TlogProof.from_text(text)
        proof.verify(leaf, [LOG.verifier], origin=LOG.name)
        POLICY.verify(proof.checkpoint)

    check(PROOF)  # the control
    chance = random.Random(2)
    for _ in range(ALTERATIONS):
        altered = alter(PROOF, chance)
        head, _, note = altered.partition("\n\n")
        if head == PROOF.partition("\n\n")[0] and same_evidence(note):
            continue
        with pytest.raises((NoteError, ProofError)):
            check(altered)


@pytest.mark.parametrize("at", range(len(WITNESSES)))
def test_no_altered_cosignature_is_accepted(at):
    verifier, line = WITNESSES[at].verifier, WITNESSES[at].signature_line(TEXT)

    def check(text):
        for item in parse_signature_lines(text):
            if (item.name, item.key_id) != (verifier.name, verifier.key_id):
                raise NoteError("Another key.")
            verifier.verify(TEXT, item.signature)

    check(line)  # the control
    chance = random.Random(3)
    for _ in range(ALTERATIONS):
        altered = alter(line, chance)
        if set(altered.splitlines(keepends=True)) == {line}:
            continue
        with pytest.raises(NoteError):
            check(altered)


def test_no_altered_submission_is_cosigned():
    from gateway.audit.prover import TreeHashes

    class Row:
        def tile(self, level, number, width):
            return b"".join(LEAVES[:width])

    head = TreeHead(5, EARLIER.root)
    hashes = TreeHashes(Row(), 13).consistency_proof(5)
    body = Submission.of(5, hashes, LOG_NOTE).to_bytes().decode()

    def check(text):
        verify_submission(Submission.parse(text.encode(errors="surrogatepass")), [LOG.verifier], head)

    check(body)  # the control
    chance = random.Random(4)
    line = LOG_NOTE.splitlines(keepends=True)[-1]
    for _ in range(ALTERATIONS):
        altered = alter(body, chance)
        start, blank, tail = altered.rpartition("\n\n")
        if blank and start == body.rpartition("\n\n")[0] and line in tail.splitlines(keepends=True):
            continue
        with pytest.raises((NoteError, SubmissionRefusedError)):
            check(altered)


def test_no_altered_log_note_passes_for_another_checkpoint():
    chance = random.Random(5)
    whole = open_checkpoint(LOG_NOTE, [LOG.verifier])
    for _ in range(ALTERATIONS):
        try:
            opened = open_checkpoint(alter(LOG_NOTE, chance), [LOG.verifier])
        except NoteError:
            continue
        assert opened == whole


def test_the_alterations_hit_what_they_are_meant_to():
    """The control of the whole file: without signatures, altered texts do get through."""
    chance = random.Random(6)
    accepted = 0
    for _ in range(500):
        try:
            Submission.parse(alter(LOG_NOTE, chance).join(["old 0\n\n", ""]).encode(errors="surrogatepass"))
        except NoteError:
            continue
        accepted += 1
    assert accepted > 20


@settings(max_examples=scaled(300, 1000))
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
@example(POLICY.to_bytes())
@example(b"quorum none")
@example(b"witness \xff \xff\nquorum \xff")
def test_whatever_reads_as_a_policy_is_written_back_with_the_same_meaning(raw):
    for candidate in (raw, POLICY.to_bytes() + raw, raw + b"\nquorum none\n"):
        try:
            policy = WitnessPolicy.parse(candidate)
        except WitnessPolicyError:
            continue
        assert WitnessPolicy.parse(policy.to_bytes()) == policy


@settings(max_examples=scaled(300, 1000))
@given(st.integers(0, len(POLICY.to_bytes()) - 1), st.binary(max_size=3), st.integers(0, 20))
def test_an_altered_policy_is_refused_or_read_and_its_error_names_a_line(at, inserted, cut):
    raw = POLICY.to_bytes()
    refused = None
    try:
        WitnessPolicy.parse(raw[:at] + inserted + raw[at + cut :])
    except WitnessPolicyError as error:
        refused = error
    assert refused is None or "line" in refused.details or "quorum" in refused.message


@given(st.binary(max_size=600))
def test_whatever_parses_as_a_submission_is_written_back_the_same(raw):
    for candidate in (
        raw,
        b"old 0\n\n" + LOG_NOTE.encode() + raw,
        b"old 0\n" + raw + b"\n\n" + LOG_NOTE.encode(),
    ):
        try:
            submission = Submission.parse(candidate)
        except NoteError:
            continue
        assert submission.to_bytes() == candidate


@given(st.binary(max_size=30) | st.from_regex(rb"[0-9]{1,20}\n?", fullmatch=True))
def test_whatever_parses_as_a_size_is_written_back_the_same(raw):
    try:
        size = parse_size(raw)
    except NoteError:
        return
    assert f"{size}\n".encode() == raw


@given(st.text(max_size=120))
def test_whatever_parses_as_a_cosigner_s_key_is_written_back_the_same(text):
    for signer in WITNESSES:
        vkey = signer.verifier.vkey()
        for candidate in (text, vkey[: len(text)] + text, vkey + text):
            try:
                verifier = cosigner_of(candidate)
            except NoteError:
                continue
            assert verifier.vkey() == candidate


sizes = st.integers(0, 200)


@given(sizes, sizes, st.integers(0, 200))
def test_a_witness_cosigns_exactly_the_trees_that_extend_what_it_has_seen(seen, size, split):
    """All honest (old, new) pairs pass; no tree that parts from the one seen does, whatever its proof."""
    from gateway.audit.prover import TreeHashes

    leaves = [leaf_hash(number.to_bytes(2, "big")) for number in range(200)]
    other = leaves[:split] + [leaf_hash(b"x" + number.to_bytes(2, "big")) for number in range(split, 200)]

    class Tree:
        def __init__(self, row):
            self.row = row

        def tile(self, level, number, width):
            return b"".join(self.row[:width])

        def head(self, count):
            root = append(Frontier(), self.row[:count]).root if count else Frontier().root()
            return TreeHead(count, root)

    seen, size = min(seen, size), max(seen, size)
    true, false = Tree(leaves), Tree(other)
    for tree in (true, false):
        note = sign_checkpoint(Checkpoint(LOG.name, size, tree.head(size).root), LOG)
        submission = Submission.of(seen, TreeHashes(tree, size).consistency_proof(seen), note)
        extends = tree is true or leaves[:seen] == other[:seen]
        if extends:
            assert verify_submission(submission, [LOG.verifier], true.head(seen)).size == size
        else:
            with pytest.raises(SubmissionRefusedError):
                verify_submission(submission, [LOG.verifier], true.head(seen))
