import base64

import pytest

from gateway.audit.errors import NoteError, NoteSignatureError
from gateway.audit.note import (
    MAX_NOTE_CHARACTERS,
    MAX_SIGNATURES,
    Ed25519Signer,
    Ed25519Verifier,
    open_note,
    parse_note,
    sign_note,
)

ALICE = Ed25519Signer.from_seed("alice.example", bytes(32))
BORIS = Ed25519Signer.from_seed("boris.example", bytes([1]) * 32)
TEXT = "one line\n"


def line(name, raw):
    return f"— {name} {base64.b64encode(raw).decode()}\n"


def test_a_note_opens_with_the_key_that_signed_it():
    note = sign_note(TEXT, [ALICE])
    assert open_note(note, [BORIS.verifier, ALICE.verifier]) == (TEXT, (ALICE.verifier,))


def test_a_note_by_unknown_keys_only_is_refused():
    with pytest.raises(NoteSignatureError):
        open_note(sign_note(TEXT, [BORIS]), [ALICE.verifier])


def test_a_note_is_refused_without_any_trusted_key():
    with pytest.raises(NoteSignatureError):
        open_note(sign_note(TEXT, [ALICE]), [])


def test_signatures_of_unknown_keys_and_types_are_ignored():
    cosignature = line("witness.example", b"\x04abc" + bytes(72))
    note = sign_note(TEXT, [BORIS, ALICE]) + cosignature
    assert open_note(note, [ALICE.verifier]) == (TEXT, (ALICE.verifier,))


def test_a_key_id_under_another_name_is_an_unknown_key():
    raw = ALICE.verifier.key_id + bytes(64)
    note = sign_note(TEXT, [ALICE]) + line("mallory.example", raw)
    assert open_note(note, [ALICE.verifier])[0] == TEXT


def test_a_failing_signature_of_a_known_key_refuses_the_whole_note():
    note = sign_note(TEXT, [ALICE]) + line("boris.example", BORIS.verifier.key_id + bytes(64))
    assert open_note(note, [ALICE.verifier])[0] == TEXT  # the control: to who does not know Boris
    with pytest.raises(NoteSignatureError):
        open_note(note, [ALICE.verifier, BORIS.verifier])


def test_a_signature_of_another_length_is_refused():
    with pytest.raises(NoteSignatureError):
        open_note(TEXT + "\n" + line("alice.example", ALICE.verifier.key_id + bytes(63)), [ALICE.verifier])


def test_signatures_over_parts_of_a_text_with_blank_lines_do_not_carry_over():
    note = sign_note("first\n\nsecond\n", [ALICE])
    assert open_note(note, [ALICE.verifier])[0] == "first\n\nsecond\n"
    with pytest.raises(NoteSignatureError):
        open_note(note.replace("second\n", ""), [ALICE.verifier])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "\n\n",
        TEXT,
        TEXT + "\n",
        TEXT + "\n\n",
        TEXT + sign_note(TEXT, [ALICE]).partition("\n\n")[2],
        sign_note(TEXT, [ALICE]).rstrip("\n"),
        sign_note(TEXT, [ALICE]) + "\n",
        sign_note(TEXT, [ALICE]) + "more\n",
        sign_note(TEXT, [ALICE]).replace("—", "-"),
        sign_note(TEXT, [ALICE]).replace("— ", "—"),
        sign_note(TEXT, [ALICE]).replace("alice.example ", "alice.example  "),
        sign_note(TEXT, [ALICE]).replace("alice.example", "alice+example"),
        sign_note(TEXT, [ALICE]).replace("alice.example", "alice\u2003example"),
        sign_note(TEXT, [ALICE]).replace("one", "one\t"),
        sign_note(TEXT, [ALICE]).replace("\n", "\r\n"),
        sign_note(TEXT, [ALICE]).replace("one", "\ud800"),
        TEXT + "\n" + line("alice.example", b"\x01\x02\x03\x04"),
        TEXT + "\n— alice.example \n",
        TEXT + "\n— alice.example ====\n",
        TEXT + "\n" + line("alice.example", bytes(68)) * (MAX_SIGNATURES + 1),
        "a" * MAX_NOTE_CHARACTERS + sign_note(TEXT, [ALICE]),
    ],
)
def test_a_malformed_note_is_refused(note):
    with pytest.raises(NoteError):
        parse_note(note)


def test_as_many_signatures_as_allowed_are_read():
    note = parse_note(TEXT + "\n" + line("alice.example", bytes(68)) * MAX_SIGNATURES)
    assert len(note.signatures) == MAX_SIGNATURES


def test_base64_with_stray_bits_is_refused():
    note = sign_note(TEXT, [ALICE])
    letter = note[-3]
    assert note.endswith(letter + "=\n")
    # The last letter carries two bits beyond the last byte; both spellings decode to the same bytes.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    respelled = note[:-3] + alphabet[alphabet.index(letter) ^ 1] + "=\n"
    encoded, other = (base64.b64decode(text.split(" ")[-1]) for text in (note, respelled))
    assert encoded == other
    with pytest.raises(NoteError):
        parse_note(respelled)


@pytest.mark.parametrize("text", ["no newline", "tab\t\n", "return\r\n", "null\0\n"])
def test_texts_that_cannot_be_notes_are_not_signed(text):
    with pytest.raises(NoteError):
        sign_note(text, [ALICE])


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\nbreak", "a\u00a0b", "a\0b"])
def test_names_that_cannot_name_keys_are_refused(name):
    with pytest.raises(NoteError):
        Ed25519Verifier(name, ALICE.verifier.public)


def test_a_verifier_key_survives_its_text():
    assert Ed25519Verifier.from_vkey(ALICE.verifier.vkey()) == ALICE.verifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice.example",
        "alice.example+" + ALICE.verifier.key_id.hex(),
        ALICE.verifier.vkey().replace("alice", "alina"),
        ALICE.verifier.vkey() + "=",
        ALICE.verifier.vkey()[:-4],
        ALICE.verifier.vkey().replace(ALICE.verifier.key_id.hex(), ALICE.verifier.key_id.hex().upper()),
        "alice.example+"
        + ALICE.verifier.key_id.hex()
        + "+"
        + base64.b64encode(b"\x04" + ALICE.verifier.public).decode(),
    ],
)
def test_a_malformed_verifier_key_is_refused(text):
    assert ALICE.verifier.key_id.hex() != ALICE.verifier.key_id.hex().upper()
    with pytest.raises(NoteError):
        Ed25519Verifier.from_vkey(text)


def test_a_public_key_of_small_order_is_refused():
    with pytest.raises(NoteError):
        Ed25519Verifier("alice.example", bytes(32))


def test_two_trusted_keys_under_one_name_and_id_are_refused():
    class Twin:
        name, key_id = ALICE.verifier.name, ALICE.verifier.key_id

        def verify(self, text, signature):
            raise AssertionError("must not be asked")

    with pytest.raises(NoteError):
        open_note(sign_note(TEXT, [ALICE]), [ALICE.verifier, Twin()])


def test_a_signer_never_shows_its_secret():
    shown = repr(ALICE) + str(ALICE)
    assert ALICE.verifier.vkey() in shown
    assert bytes(32).hex() not in shown
    assert base64.b64encode(bytes(32)).decode() not in shown
