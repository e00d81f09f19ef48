"""Signed notes (c2sp.org/signed-note): text, a blank line, and one line for each signature.

Here are plain Ed25519 signatures (type 0x01); `gateway.audit.cosignature` has the timestamped ones.
Signatures by unknown keys, of whatever type, are carried along and ignored, as the specification
demands.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.audit.errors import NoteError, NoteSignatureError
from gateway.errors import ConfigError
from gateway.evidence.keys import PUBLIC_KEY_BYTES, SignatureError, SigningKey, VerifyKey

MAX_NOTE_CHARACTERS: Final = 256 * 1024
"""Room for 16 post-quantum signatures of almost 5 kB, which every verifier must accept."""
MAX_SIGNATURES: Final = 100
"""As golang.org/x/mod/sumdb/note has it; the specification asks for at least 16."""

ED25519: Final = 0x01
"""The signature type of plain Ed25519."""

KEY_ID_BYTES: Final = 4

_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_KEY_ID_HEX: Final = re.compile(r"[0-9a-f]{8}")
_EM_DASH: Final = "\u2014 "


class Verifier(Protocol):
    """A key that a note may be signed by."""

    @property
    def name(self) -> str:
        """The key's name."""
        ...

    @property
    def key_id(self) -> bytes:
        """The key's id, 4 bytes."""
        ...

    def verify(self, text: str, signature: bytes) -> None:
        """Raise `NoteSignatureError` unless `signature` is this key's over `text`."""
        ...


class Signer(Protocol):
    """A key that signs notes."""

    @property
    def name(self) -> str:
        """The key's name."""
        ...

    def signature_line(self, text: str) -> str:
        """Return the signature line over `text`, with its newline."""
        ...


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not yet verified."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Return the signature line, with its newline."""
        return f"{_EM_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart, not yet verified. `text` ends in a newline."""

    text: str
    signatures: tuple[NoteSignature, ...]


def check_key_name(name: str) -> None:
    """Raise `NoteError` unless `name` may name a key: no spaces, no plus, no control characters."""
    if not name or "+" in name or _CONTROL.search(name) or any(letter.isspace() for letter in name):
        raise NoteError("A key name is not empty and has no space, plus sign or control character.")


def key_id_of(name: str, kind: int, public: bytes) -> bytes:
    """Return the 4-byte id of a key: the start of SHA-256(name, newline, type, key)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A verifier key taken apart; its id belongs to its name and key."""

    name: str
    kind: int
    """The signature type: the byte before the key."""
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The key's id, 4 bytes."""
        return key_id_of(self.name, self.kind, self.public)

    def to_text(self) -> str:
        """Return the text form: name, id and key, joined by plus signs."""
        encoded = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


def parse_vkey(text: str) -> VerifierKey:
    """Take a verifier key of any type apart, strictly; raise `NoteError`."""
    name, first, rest = text.partition("+")
    identity, second, encoded = rest.partition("+")
    if not first or not second or not _KEY_ID_HEX.fullmatch(identity):
        raise NoteError("A verifier key is NAME+ID+KEY with an id of 8 lower-case hex digits.")
    check_key_name(name)
    raw = _decode_base64(encoded)
    if not raw:
        raise NoteError("A verifier key holds a type and a key.")
    key = VerifierKey(name, raw[0], raw[1:])
    if key.key_id.hex() != identity:
        raise NoteError("The id in this verifier key does not belong to its name and key.")
    return key


class Ed25519Verifier:
    """An Ed25519 public key under a name."""

    def __init__(self, name: str, public: bytes) -> None:
        """Take the 32-byte key; raise `NoteError` if the name or the key is not usable."""
        check_key_name(name)
        try:
            self._key = VerifyKey(public)
        except ConfigError as error:
            raise NoteError(error.message) from error
        self.name = name
        self.key_id = key_id_of(name, ED25519, public)

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public

    def vkey(self) -> str:
        """Return the verifier key in text form: name, id and key, joined by plus signs."""
        return VerifierKey(self.name, ED25519, self._key.public).to_text()

    @classmethod
    def from_vkey(cls, text: str) -> Ed25519Verifier:
        """Read the text form; raise `NoteError` if it is not exactly that of an Ed25519 key."""
        key = parse_vkey(text)
        if key.kind != ED25519 or len(key.public) != PUBLIC_KEY_BYTES:
            raise NoteError("This verifier key is not an Ed25519 key (type 0x01).")
        return cls(key.name, key.public)

    def verify(self, text: str, signature: bytes) -> None:
        """Raise `NoteSignatureError` unless `signature` is this key's over `text`."""
        try:
            self._key.verify(signature, text.encode())
        except SignatureError as error:
            raise NoteSignatureError("A signature on the note does not fit its text and key.") from error

    def __repr__(self) -> str:
        return f"Ed25519Verifier({self.vkey()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ed25519Verifier) and (self.name, self.public) == (other.name, other.public)

    def __hash__(self) -> int:
        return hash((self.name, self.public))


class Ed25519Signer:
    """An Ed25519 private key under a name. Never printed."""

    def __init__(self, name: str, key: SigningKey) -> None:
        self._key = key
        self.name = name
        self.verifier = Ed25519Verifier(name, key.verify_key.public)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Ed25519Signer:
        """Make the signer of the 32-byte secret `seed`."""
        return cls(name, SigningKey(seed))

    def signature_line(self, text: str) -> str:
        """Return the signature line over `text`, with its newline."""
        return NoteSignature(self.name, self.verifier.key_id, self._key.sign(text.encode())).line()

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.verifier.vkey()})"


def sign_note(text: str, signers: Iterable[Signer]) -> str:
    """Return `text` as a note with one signature of each signer.

    Raises `NoteError` if the text does not end in a newline or has control characters.
    """
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteError("The text of a note ends in a newline and has no other control character.")
    return text + "\n" + "".join(signer.signature_line(text) for signer in signers)


def parse_note(note: str) -> Note:
    """Take a note apart, strictly; raise `NoteError`. Nothing is verified yet."""
    if len(note) > MAX_NOTE_CHARACTERS:
        raise NoteError("The note is too long.")
    if _CONTROL.search(note):
        raise NoteError("A note has no control characters but newlines.")
    body, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise NoteError("A note is text, an empty line and signature lines, each ending in a newline.")
    return Note(body + "\n", parse_signature_lines(tail))


def parse_signature_lines(text: str) -> tuple[NoteSignature, ...]:
    """Take one or more signature lines apart, each ending in a newline; raise `NoteError`."""
    if len(text) > MAX_NOTE_CHARACTERS or _CONTROL.search(text) or not text.endswith("\n"):
        raise NoteError("Signature lines each end in a newline and have no other control character.")
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError("The note carries too many signatures.", limit=MAX_SIGNATURES)
    return tuple(_parse_signature(line) for line in lines)


def open_note(note: str, verifiers: Iterable[Verifier]) -> tuple[str, tuple[Verifier, ...]]:
    """Return (text, the keys that signed it) of a note that at least one of `verifiers` signed.

    Every signature by a known key must verify. Raises `NoteError` for a malformed note and
    `NoteSignatureError` if no known key signed it or a signature fails.
    """
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise NoteError("Two trusted keys share a name and an id; use another name for one.")
    parsed = parse_note(note)
    signed_by: list[Verifier] = []
    for signature in parsed.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        key.verify(parsed.text, signature.signature)
        if key not in signed_by:
            signed_by.append(key)
    if not signed_by:
        raise NoteSignatureError("The note carries no signature by a trusted key.")
    return parsed.text, tuple(signed_by)


def _parse_signature(line: str) -> NoteSignature:
    if not line.startswith(_EM_DASH):
        raise NoteError("A signature line starts with an em dash and a space.")
    name, _, encoded = line.removeprefix(_EM_DASH).partition(" ")
    check_key_name(name)
    raw = _decode_base64(encoded)
    if len(raw) <= KEY_ID_BYTES:
        raise NoteError("A signature line holds a key id and a signature.")
    return NoteSignature(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def _decode_base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("Keys and signatures in notes are in base64.") from error
    # Python ignores stray bits in the last character; one signature would have several spellings.
    if base64.b64encode(raw).decode() != text:
        raise NoteError("Keys and signatures in notes are in base64.")
    return raw
