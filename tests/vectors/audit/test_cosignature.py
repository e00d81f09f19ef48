"""Cosignatures, checkpoints and witness dialogues that other people's code has made."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.audit.checkpoint import open_checkpoint, parse_checkpoint
from gateway.audit.cosignature import (
    Ed25519CosignatureSigner,
    MlDsaCosignatureSigner,
    MlDsaCosignatureVerifier,
    cosigner_of,
    log_verifier_of,
)
from gateway.audit.errors import NoteSignatureError
from gateway.audit.note import Ed25519Verifier, NoteSignature, open_note, parse_note
from gateway.audit.tree import EMPTY_ROOT, Frontier, append, leaf_hash
from gateway.evidence.keys import SigningKey
from gateway.evidence.ml_dsa import MlDsaSigningKey, is_ml_dsa_available
from gateway.witness.judgement import SubmissionRefusedError
from gateway.witness.state import WitnessState
from gateway.witness.witness import Witness

HERE = Path(__file__).parent
ML_DSA = json.loads((HERE / "ml_dsa.json").read_text())
LITEWITNESS = json.loads((HERE / "litewitness.json").read_text())
TESSERA = json.loads((HERE / "tessera.json").read_text())

STRICTER = {1: 400}
"""The dialogue spoils a signature by a stray bit in its base64. Go drops the bit and finds that the signature
fails; we refuse the spelling already, for one note is to have one form."""

needs_ml_dsa = pytest.mark.skipif(not is_ml_dsa_available(), reason="this OpenSSL has no ML-DSA")

# Made with github.com/transparency-dev/formats v0.1.1, note.NewSignerForCosignatureV1, and the key "Wit1" of
# its witness_policy_test.go. The checkpoint has an extension line.
GO_SEED = "PRIVATE+KEY+Wit1+55ee4561+AeadRiG7XM4XiieCHzD8lxysXMwcViy5nYsoXURWGrlE"
GO_VKEY = "Wit1+9b3fb2d5+BFhZSmQj9+SoL+p/nN0Hh76xXmF7QcHfytUrI1XfSClk"
GO_TEXT = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
An extension line
"""
GO_LINE = (
    "— Wit1 mz+y1QAAAABrAj23zAy8mC47cE+Um8g7Z/Rx0aJlqXudEh+rgARp+Ab0hXFUs0tjQk69ZTFfy99T2CHnAF3WvKuhaKtycnDr"
    "4oxNDw==\n"
)
# transparency-dev/formats, note_cosigv1_test.go
REMORA_VKEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
# c2sp.org/tlog-cosignature, the example; its key is not published
SPEC_LINE = (
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1n"
    "PZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


def signature_of(line):
    return parse_note("x\n\n" + line).signatures[0]


def test_a_cosignature_made_in_go_verifies_with_its_time():
    cosigner = cosigner_of(GO_VKEY)
    assert cosigner.vkey() == GO_VKEY
    assert cosigner.cosigned_at_s(GO_TEXT, signature_of(GO_LINE).signature) == 1_795_308_983


def test_a_cosignature_made_in_go_covers_the_extension_lines():
    cosigner = cosigner_of(GO_VKEY)
    with pytest.raises(NoteSignatureError):
        cosigner.verify(GO_TEXT.replace("An", "No"), signature_of(GO_LINE).signature)


def test_cosigning_gives_the_bytes_that_go_gives():
    seed = base64.b64decode(GO_SEED.split("+", 4)[4])[1:]
    signer = Ed25519CosignatureSigner("Wit1", SigningKey(seed))
    time_s = int.from_bytes(signature_of(GO_LINE).signature[:8], "big")
    assert signer.cosign(GO_TEXT, datetime.fromtimestamp(time_s, UTC)) == GO_LINE


def test_a_published_cosigner_key_is_read_and_written_back():
    assert cosigner_of(REMORA_VKEY).vkey() == REMORA_VKEY
    assert cosigner_of(REMORA_VKEY).name == "remora.n621.de"


def test_the_example_line_of_the_specification_is_a_key_id_a_time_and_a_signature():
    signature = signature_of(SPEC_LINE)
    assert (signature.name, signature.key_id.hex()) == ("witness.example.com/w1", "8d66cf3f")
    assert int.from_bytes(signature.signature[:8], "big") == 1679315147
    assert len(signature.signature) == 8 + 64
    assert signature.line() == SPEC_LINE


@needs_ml_dsa
def test_an_ml_dsa_checkpoint_made_by_torchwood_verifies():
    key = MlDsaSigningKey(bytes.fromhex(ML_DSA["seed"]))
    verifier = MlDsaCosignatureVerifier(ML_DSA["name"], key.verify_key.public)
    assert verifier.key_id.hex() == ML_DSA["key_id"]
    note = ML_DSA["text"] + "\n" + ML_DSA["line"]
    assert open_checkpoint(note, [verifier]).size == 1
    assert verifier.cosigned_at_s(ML_DSA["text"], signature_of(ML_DSA["line"]).signature) == 0
    assert log_verifier_of(verifier.vkey()) == verifier


@needs_ml_dsa
@pytest.mark.parametrize(
    "change",
    [("\n1\n", "\n2\n"), ("mldsa-log\n", "mldsa-lag\n"), ("+zoErtsZ", "+zoErtsY")],
    ids=["size", "origin", "root"],
)
def test_an_ml_dsa_checkpoint_made_by_torchwood_does_not_verify_for_another_tree(change):
    key = MlDsaSigningKey(bytes.fromhex(ML_DSA["seed"]))
    verifier = MlDsaCosignatureVerifier(ML_DSA["name"], key.verify_key.public)
    with pytest.raises(NoteSignatureError):
        verifier.verify(ML_DSA["text"].replace(*change), signature_of(ML_DSA["line"]).signature)


@needs_ml_dsa
def test_an_ml_dsa_subtree_without_a_time_is_the_checkpoint_from_its_start():
    key = MlDsaSigningKey(bytes.fromhex(ML_DSA["seed"]))
    signer = MlDsaCosignatureSigner(ML_DSA["name"], key)
    checkpoint = parse_checkpoint(ML_DSA["text"])
    signature = signature_of(ML_DSA["line"]).signature
    assert isinstance(signer.verifier, MlDsaCosignatureVerifier)
    signer.verifier.verify_subtree(checkpoint.origin, 0, 1, checkpoint.root, signature)
    with pytest.raises(NoteSignatureError):
        signer.verifier.verify_subtree(checkpoint.origin, 1, 2, checkpoint.root, signature)


@pytest.fixture
def litewitness(tmp_path):
    """A witness of ours that knows the log of the dialogue."""
    verifier = Ed25519Verifier(LITEWITNESS["origin"], bytes.fromhex(LITEWITNESS["public_key"]))
    with WitnessState.create(tmp_path / "witness.db") as state:
        state.add_key(LITEWITNESS["origin"], verifier.vkey())
        yield Witness(state, [Ed25519CosignatureSigner("example.com/witness", SigningKey(bytes(32)))])


def test_the_dialogue_with_litewitness_gets_the_same_answers_from_our_witness(litewitness):
    for number, step in enumerate(LITEWITNESS["steps"]):
        body = step["body"].encode()
        if step["status"] == 200:
            lines = litewitness.add_checkpoint(body)
            assert lines.startswith("— example.com/witness "), number
            text = step["body"].split("\n\n")[1] + "\n"
            cosigner_of(litewitness.vkeys[0]).verify(text, signature_of(lines).signature)
            continue
        with pytest.raises(SubmissionRefusedError) as refusal:
            litewitness.add_checkpoint(body)
        assert refusal.value.answer == STRICTER.get(number, step["status"]), number
        if "answer" in step:
            assert f"{refusal.value.size}\n" == step["answer"]


def test_the_checkpoints_of_the_small_log_of_tessera_verify_and_have_our_roots():
    verifier = Ed25519Verifier.from_vkey(TESSERA["vkey"])
    frontier = Frontier()
    for size, note in enumerate(TESSERA["checkpoints"]):
        checkpoint = open_checkpoint(note, [verifier])
        assert (checkpoint.size, checkpoint.root) == (size, frontier.root() if size else EMPTY_ROOT)
        if size < len(TESSERA["entries"]):
            frontier = append(frontier, [leaf_hash(TESSERA["entries"][size].encode())]).frontier
    assert open_note(TESSERA["checkpoints"][-1], [verifier])[1] == (verifier,)


def test_a_line_written_from_its_parts_is_the_line():
    parsed = signature_of(GO_LINE)
    assert NoteSignature(parsed.name, parsed.key_id, parsed.signature).line() == GO_LINE
