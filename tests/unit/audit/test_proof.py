import base64

import pytest

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.errors import ConsistencyProofError, InclusionProofError, NoteSignatureError, ProofError
from gateway.audit.note import Ed25519Signer
from gateway.audit.proof import MAX_EXTRA_BYTES, TlogProof, verify_consistency, verify_inclusion
from gateway.audit.tree import Frontier, append, leaf_hash

LOG = Ed25519Signer.from_seed("log.example", bytes(32))
LEAVES = [leaf_hash(bytes([index])) for index in range(5)]
BATCH = append(Frontier(), LEAVES)
NOTE = sign_checkpoint(Checkpoint("log.example", 5, BATCH.root), LOG)
PROOF = TlogProof(3, BATCH.inclusion_proof(3), NOTE)
TEXT = PROOF.to_text()
HASH = base64.b64encode(bytes(32)).decode()


def test_a_proof_verifies_from_its_text_alone():
    checkpoint = TlogProof.from_text(TEXT).verify(LEAVES[3], [LOG.verifier])
    assert (checkpoint.size, checkpoint.root) == (5, BATCH.root)


def test_a_proof_of_another_entry_does_not_verify():
    with pytest.raises(InclusionProofError):
        PROOF.verify(LEAVES[2], [LOG.verifier])


def test_a_proof_under_a_foreign_key_does_not_verify():
    stranger = Ed25519Signer.from_seed("log.example", bytes([9]) * 32)
    with pytest.raises(NoteSignatureError):
        PROOF.verify(LEAVES[3], [stranger.verifier])


def test_a_proof_in_a_log_of_one_entry_has_no_hashes():
    batch = append(Frontier(), LEAVES[:1])
    note = sign_checkpoint(Checkpoint("log.example", 1, batch.root), LOG)
    proof = TlogProof(0, batch.inclusion_proof(0), note)
    assert proof.hashes == ()
    assert TlogProof.from_text(proof.to_text()).verify(LEAVES[0], [LOG.verifier]).size == 1


def test_extra_data_is_carried_even_when_empty():
    for extra in (b"", b"anything", bytes(MAX_EXTRA_BYTES)):
        text = TlogProof(3, PROOF.hashes, NOTE, extra).to_text()
        assert TlogProof.from_text(text).extra == extra
    with pytest.raises(ProofError):
        TlogProof.from_text(TlogProof(3, PROOF.hashes, NOTE, bytes(MAX_EXTRA_BYTES + 1)).to_text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        NOTE,
        TEXT.replace("@v1", "@v2"),
        TEXT.replace("index 3\n", ""),
        TEXT.replace("index 3", "index 03"),
        TEXT.replace("index 3", "index -3"),
        TEXT.replace("index 3", "index"),
        TEXT.replace("index 3", f"index {2**63}"),
        TEXT.replace("index 3", "extra AA==\nextra AA==\nindex 3"),
        TEXT.replace("index 3", "extra AB==\nindex 3"),
        TEXT.replace("index 3", "extra *\nindex 3"),
        TEXT.replace("index 3\n", f"index 3\n{HASH[:-1]}\n"),
        TEXT.replace("index 3\n", "index 3\n" + f"{HASH}\n" * 64),
        TEXT.replace("\n\n", "\n", 1),
        TEXT.replace("\n", "\r\n"),
        TEXT + "\n",
        TEXT + "x" * 2_000_000,
    ],
)
def test_a_malformed_proof_is_refused(text):
    assert text != TEXT
    with pytest.raises(ProofError):
        TlogProof.from_text(text)


def test_63_hashes_are_read():
    text = TEXT.replace("index 3\n", "index 3\n" + f"{HASH}\n" * (63 - len(PROOF.hashes)))
    assert len(TlogProof.from_text(text).hashes) == 63


def test_absurd_numbers_are_refused_without_work():
    with pytest.raises(InclusionProofError):
        verify_inclusion(LEAVES[0], 2**200, 2**201, [], LEAVES[0])
    with pytest.raises(ConsistencyProofError):
        verify_consistency(1, LEAVES[0], 2**200, LEAVES[0], [LEAVES[0]])
    with pytest.raises(InclusionProofError):
        verify_inclusion(LEAVES[0], 0, 2, [LEAVES[0]] * 100_000, LEAVES[0])
