"""Notes, checkpoints, proofs and paths as texts: one form each, and nothing altered is accepted."""

import base64

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from gateway.audit.errors import NoteError, ProofError
from gateway.audit.note import Ed25519Signer, Ed25519Verifier, open_note, parse_note, sign_note
from gateway.audit.proof import TlogProof
from gateway.audit.tiles import Tile, parse_tile_path, tile_path
from gateway.audit.tree import Frontier, append, leaf_hash
from gateway.errors import GatewayError

SIGNER = Ed25519Signer.from_seed("audit.example.org/log/2026", bytes(range(32)))
BATCH = append(Frontier(), [leaf_hash(bytes([index])) for index in range(13)])
NOTE = sign_checkpoint(Checkpoint(SIGNER.name, 13, BATCH.root), SIGNER)
PROOF = TlogProof(11, BATCH.inclusion_proof(11), NOTE)

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60)


@pytest.mark.parametrize("at", range(len(NOTE)))
def test_a_checkpoint_with_any_one_character_altered_is_refused(at):
    assert open_checkpoint(NOTE, [SIGNER.verifier]).size == 13  # the control
    for other in (chr(ord(NOTE[at]) ^ 1), "\n", " ", "A", ""):
        if other != NOTE[at]:
            with pytest.raises(NoteError):
                open_checkpoint(NOTE[:at] + other + NOTE[at + 1 :], [SIGNER.verifier])


def test_a_proof_with_any_one_character_altered_is_refused():
    text = PROOF.to_text()
    leaf = leaf_hash(bytes([11]))
    assert TlogProof.from_text(text).verify(leaf, [SIGNER.verifier]).size == 13  # the control
    for at, letter in enumerate(text):
        for other in (chr(ord(letter) ^ 1), "\n", ""):
            if other != letter:
                with pytest.raises(GatewayError) as refusal:
                    TlogProof.from_text(text[:at] + other + text[at + 1 :]).verify(leaf, [SIGNER.verifier])
                assert isinstance(refusal.value, NoteError | ProofError)


@given(st.lists(texts, min_size=1, max_size=5).map(lambda lines: "\n".join(lines) + "\n"))
def test_any_text_can_be_signed_and_opened(text):
    assert open_note(sign_note(text, [SIGNER]), [SIGNER.verifier]) == (text, (SIGNER.verifier,))


@given(st.text(max_size=300))
@example("\n\n")
@example("\n\n— a \n")
@example("a\n\n— a AAAAAA==\n\n")
@example("a\n\n\ud800 a AAAA\n")
def test_whatever_parses_as_a_note_is_written_back_the_same(text):
    try:
        note = parse_note(text)
    except NoteError:
        return
    lines = (
        f"\u2014 {item.name} {base64.b64encode(item.key_id + item.signature).decode()}\n"
        for item in note.signatures
    )
    assert note.text + "\n" + "".join(lines) == text


@given(st.text(max_size=200) | st.from_regex(r"[a-z]+\n[0-9]{1,22}\n[A-Za-z0-9+/]{43}=\n", fullmatch=True))
def test_whatever_parses_as_a_checkpoint_is_written_back_the_same(text):
    try:
        checkpoint = parse_checkpoint(text)
    except NoteError:
        return
    assert checkpoint.to_text() == text
    assert 0 <= checkpoint.size < 2**63


@given(st.text(max_size=200), st.integers(0, len(PROOF.to_text())), st.integers(0, 40))
def test_whatever_parses_as_a_proof_is_written_back_the_same(text, at, length):
    whole = PROOF.to_text()
    for candidate in (text, whole[:at] + text + whole[at + length :]):
        try:
            proof = TlogProof.from_text(candidate)
        except ProofError:
            continue
        assert proof.to_text() == candidate


@given(st.text(max_size=40) | st.from_regex(r"tile/[0-9]{1,3}/(x[0-9]{3}/){0,8}[0-9]{3}(\.p/[0-9]{1,4})?"))
def test_whatever_parses_as_a_tile_path_is_written_back_the_same(path):
    try:
        tile = parse_tile_path(path)
    except ProofError:
        return
    assert tile_path(tile) == path


@given(st.none() | st.integers(0, 63), st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_every_tile_has_a_path_that_leads_back_to_it(level, number, width):
    assert parse_tile_path(tile_path(Tile(level, number, width))) == Tile(level, number, width)


@settings(max_examples=200)
@given(st.text(max_size=120))
def test_whatever_parses_as_a_verifier_key_is_written_back_the_same(text):
    for candidate in (text, SIGNER.verifier.vkey()[: len(text)] + text):
        try:
            verifier = Ed25519Verifier.from_vkey(candidate)
        except NoteError:
            continue
        assert verifier.vkey() == candidate
