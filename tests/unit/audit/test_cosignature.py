from datetime import UTC, datetime

import pytest

from gateway.audit.cosignature import (
    MAX_TIME_S,
    Ed25519CosignatureSigner,
    Ed25519CosignatureVerifier,
    MlDsaCosignatureSigner,
    MlDsaCosignatureVerifier,
    cosigner_of,
    log_verifier_of,
    subtree_message,
)
from gateway.audit.errors import NoteError, NoteSignatureError
from gateway.audit.note import Ed25519Signer, VerifierKey, open_note, parse_note, sign_note
from gateway.clock import FixedClock
from gateway.errors import ConfigError
from gateway.evidence import ml_dsa
from gateway.evidence.keys import SigningKey, write_secret
from gateway.evidence.ml_dsa import MlDsaSigningKey, MlDsaVerifyKey, is_ml_dsa_available

TEXT = "example.com/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
needs_ml_dsa = pytest.mark.skipif(not is_ml_dsa_available(), reason="this OpenSSL has no ML-DSA")


def ed25519(name="w.example"):
    return Ed25519CosignatureSigner(name, SigningKey(bytes(32)), FixedClock(NOON))


def ml_dsa_44(name="w.example"):
    return MlDsaCosignatureSigner(name, MlDsaSigningKey(bytes(32)), FixedClock(NOON))


KINDS = [pytest.param(ed25519, id="Ed25519"), pytest.param(ml_dsa_44, id="ML-DSA-44", marks=needs_ml_dsa)]
both = pytest.mark.parametrize("make", KINDS)


def payload(signer, text=TEXT):
    return parse_note(text + "\n" + signer.signature_line(text)).signatures[0].signature


@both
def test_a_cosignature_verifies_and_tells_its_time(make):
    signer = make()
    assert signer.verifier.cosigned_at_s(TEXT, payload(signer)) == int(NOON.timestamp())
    assert open_note(sign_note(TEXT, [signer]), [signer.verifier]) == (TEXT, (signer.verifier,))


@both
def test_the_public_key_has_a_text_form(make):
    verifier = make().verifier
    assert cosigner_of(verifier.vkey()) == verifier
    assert hash(cosigner_of(verifier.vkey())) == hash(verifier)
    assert make("v.example").verifier != verifier


@both
@pytest.mark.parametrize(
    "other",
    [TEXT.replace("7", "8"), TEXT.replace("log", "lag"), TEXT.replace("CsUY", "CsUZ")],
    ids=["size", "origin", "root"],
)
def test_a_cosignature_is_over_one_checkpoint(make, other):
    signer = make()
    with pytest.raises(NoteSignatureError):
        signer.verifier.verify(other, payload(signer))


@both
def test_every_byte_of_a_cosignature_counts(make):
    signer = make()
    good = payload(signer)
    step = 1 if len(good) < 100 else 97
    for at in [*range(9), *range(8, len(good), step)]:
        spoilt = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(NoteSignatureError):
            signer.verifier.verify(TEXT, spoilt)
    for spoilt in (b"", good[:-1], good + b"\x00", good[8:]):
        with pytest.raises(NoteSignatureError):
            signer.verifier.verify(TEXT, spoilt)


def test_only_ml_dsa_leaves_extension_lines_to_the_log():
    extended = TEXT + "more\n"
    with pytest.raises(NoteSignatureError):
        ed25519().verifier.verify(extended, payload(ed25519()))
    if is_ml_dsa_available():
        ml_dsa_44().verifier.verify(extended, payload(ml_dsa_44()))


@needs_ml_dsa
def test_only_ml_dsa_binds_the_name_of_the_cosigner():
    renamed = MlDsaCosignatureVerifier("v.example", ml_dsa_44().verifier.public)
    with pytest.raises(NoteSignatureError):
        renamed.verify(TEXT, payload(ml_dsa_44()))
    Ed25519CosignatureVerifier("v.example", ed25519().verifier.public).verify(TEXT, payload(ed25519()))


@both
@pytest.mark.parametrize("text", ["", "x\n", "a\nb\nc\n", TEXT[:-1]])
def test_only_checkpoints_are_cosigned(make, text):
    with pytest.raises(NoteError):
        make().cosign(text, NOON)


@both
@pytest.mark.parametrize("year", [1970, 1969])
def test_a_time_before_there_was_any_is_refused(make, year):
    with pytest.raises(NoteError, match="clock"):
        make().cosign(TEXT, datetime(year, 1, 1, tzinfo=UTC))


@both
def test_a_time_beyond_63_bits_is_refused(make):
    signer = make()
    with pytest.raises(NoteSignatureError, match="beyond"):
        signer.verifier.verify(TEXT, (MAX_TIME_S + 1).to_bytes(8, "big") + payload(signer)[8:])


@pytest.mark.parametrize(
    ("name", "origin", "start", "end", "time_s", "root"),
    [
        ("", "o", 0, 1, 1, bytes(32)),
        ("n" * 256, "o", 0, 1, 1, bytes(32)),
        ("n", "", 0, 1, 1, bytes(32)),
        ("n", "é" * 128, 0, 1, 1, bytes(32)),
        ("n", "o", 2, 1, 0, bytes(32)),
        ("n", "o", 1, 2, 1, bytes(32)),
        ("n", "o", 0, 1, 1, bytes(31)),
        ("n", "o", 0, 2**63, 1, bytes(32)),
    ],
)
def test_a_subtree_that_cannot_be_is_refused(name, origin, start, end, time_s, root):
    with pytest.raises(NoteError):
        subtree_message(name, time_s, origin, start, end, root)


def test_the_signed_structure_of_ml_dsa_is_that_of_the_specification():
    parts = [
        b"subtree/v1\n\x00",
        b"\x01w",
        b"\x00\x00\x00\x00\x00\x00\x01\x02",
        b"\x03log",
        bytes(8),
        b"\x00\x00\x00\x00\x00\x00\x00\x07",
        b"\x05" * 32,
    ]
    assert subtree_message("w", 258, "log", 0, 7, b"\x05" * 32) == b"".join(parts)


@pytest.mark.parametrize("kind", [0, 1, 2, 5, 0xFF])
def test_keys_of_other_types_are_no_cosigners(kind):
    with pytest.raises(NoteError, match=f"0x{kind:02x}"):
        cosigner_of(VerifierKey("w.example", kind, ed25519().verifier.public).to_text())


def test_a_log_s_key_is_ed25519_or_ml_dsa():
    log = Ed25519Signer.from_seed("example.com/log", bytes(32)).verifier
    assert log_verifier_of(log.vkey()) == log
    with pytest.raises(NoteError, match="0x04"):
        log_verifier_of(ed25519().verifier.vkey())


@pytest.mark.parametrize(("kind", "length"), [(4, 31), (4, 33), (6, 1311), (6, 32), (4, 0)])
def test_keys_of_another_length_are_refused(kind, length):
    with pytest.raises(NoteError):
        cosigner_of(VerifierKey("w.example", kind, bytes(length)).to_text())


def test_an_installation_without_ml_dsa_says_so(monkeypatch, tmp_path):
    from cryptography.exceptions import UnsupportedAlgorithm

    class Absent:
        @staticmethod
        def refuse(*_):
            raise UnsupportedAlgorithm("no ML-DSA here")

        from_public_bytes = from_seed_bytes = generate = refuse

    monkeypatch.setattr(ml_dsa.mldsa, "MLDSA44PublicKey", Absent)
    monkeypatch.setattr(ml_dsa.mldsa, "MLDSA44PrivateKey", Absent)
    assert not is_ml_dsa_available()
    vkey = VerifierKey("w.example", 6, bytes(1312)).to_text()
    with pytest.raises(NoteError, match="has no ML-DSA-44"):
        cosigner_of(vkey)
    for use in (
        lambda: MlDsaSigningKey(bytes(32)),
        MlDsaSigningKey.generate,
        lambda: MlDsaVerifyKey(bytes(1312)),
    ):
        with pytest.raises(ConfigError, match="has no ML-DSA-44"):
            use()


@needs_ml_dsa
def test_an_ml_dsa_key_is_kept_in_a_file_for_its_owner_only(tmp_path):
    path = tmp_path / "w.key"
    key = MlDsaSigningKey.generate()
    write_secret(path, key.to_pem())
    loaded = MlDsaSigningKey.load(path)
    loaded.verify_key.verify(key.sign(b"x"), b"x")
    assert "PRIVATE" not in repr(loaded)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        MlDsaSigningKey.load(path)


@needs_ml_dsa
@pytest.mark.parametrize("content", [b"", b"no key", SigningKey(bytes(32)).to_pem()])
def test_a_file_with_another_key_is_refused(tmp_path, content):
    path = tmp_path / "w.key"
    write_secret(path, content)
    with pytest.raises(ConfigError):
        MlDsaSigningKey.load(path)
