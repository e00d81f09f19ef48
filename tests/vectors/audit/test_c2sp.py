"""Examples of the C2SP specifications, and those of the Go implementation they describe."""

import base64

import pytest

from gateway.audit.checkpoint import parse_checkpoint
from gateway.audit.errors import NoteSignatureError
from gateway.audit.note import Ed25519Signer, Ed25519Verifier, open_note, parse_note, sign_note
from gateway.audit.proof import TlogProof
from gateway.audit.tiles import Tile, parse_tile_path, tile_path, tile_width

# c2sp.org/signed-note, "Example"
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72"
    "IneyaQM=\n"
)
# golang.org/x/mod/sumdb/note, package documentation and note_test.go
PETER_SEED_KEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJ"
    "nAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ="
    "\n"
)
# c2sp.org/tlog-checkpoint
CHECKPOINT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_the_example_note_of_the_specification_opens():
    verifier = Ed25519Verifier.from_vkey(SPEC_VKEY)
    assert verifier.vkey() == SPEC_VKEY
    assert open_note(SPEC_NOTE, [verifier]) == ("This is an example message.\n", (verifier,))


def test_the_example_note_with_another_text_does_not_open():
    with pytest.raises(NoteSignatureError):
        open_note(
            SPEC_NOTE.replace("example message", "example massage"), [Ed25519Verifier.from_vkey(SPEC_VKEY)]
        )


def test_a_note_with_the_signatures_of_two_keys_opens_with_either_and_with_both():
    peter, enoch = Ed25519Verifier.from_vkey(PETER_VKEY), Ed25519Verifier.from_vkey(ENOCH_VKEY)
    note = GO_TEXT + "\n" + PETER_LINE + ENOCH_LINE
    assert open_note(note, [peter]) == (GO_TEXT, (peter,))
    assert open_note(note, [enoch]) == (GO_TEXT, (enoch,))
    assert open_note(note, [enoch, peter]) == (GO_TEXT, (peter, enoch))


def test_signing_gives_the_bytes_that_go_gives():
    seed = base64.b64decode(PETER_SEED_KEY.split("+", 4)[4])[1:]
    signer = Ed25519Signer.from_seed("PeterNeumann", seed)
    assert signer.verifier.vkey() == PETER_VKEY
    assert sign_note(GO_TEXT, [signer]) == GO_TEXT + "\n" + PETER_LINE


def test_the_example_checkpoint_of_the_specification_is_read_and_written_back():
    checkpoint = parse_checkpoint(CHECKPOINT)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.to_text() == CHECKPOINT


def test_the_example_poem_is_split_at_its_last_blank_line():
    poem = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n"
    line = (
        "— quasimodo.example/salvatore "
        "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
    )
    note = parse_note(poem + "\n" + line)
    assert note.text == poem
    assert [signature.name for signature in note.signatures] == ["quasimodo.example/salvatore"]


def test_the_example_tile_paths_of_the_specification():
    assert tile_path(Tile(0, 1234067)) == "tile/0/x001/x234/067"
    assert parse_tile_path("tile/entries/x001/x234/067.p/9") == Tile(None, 1234067, 9)


def test_the_tiles_of_a_tree_of_70000_leaves_are_those_of_the_specification():
    size = 70_000
    assert [tile_width(0, number, size) for number in (272, 273, 274)] == [256, 112, 0]
    assert [tile_width(1, number, size) for number in (0, 1, 2)] == [256, 17, 0]
    assert [tile_width(2, number, size) for number in (0, 1)] == [1, 0]
    assert [tile_width(level, 0, 256) for level in (0, 1, 2)] == [256, 1, 0]


def test_a_proof_in_the_form_of_the_specification_is_read_and_written_back():
    text = (
        "c2sp.org/tlog-proof@v1\n"
        "extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6\n"
        "index 73894\n"
        "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n"
        "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n"
        "\n" + CHECKPOINT + "\n" + PETER_LINE
    )
    proof = TlogProof.from_text(text)
    assert (proof.index, len(proof.hashes), proof.extra) == (73894, 2, b"age-v1.2.1-darwin-arm64.tar.gz")
    assert proof.to_text() == text
