"""Cosignatures (c2sp.org/tlog-cosignature): timestamped signatures of witnesses over checkpoints.

Two types. Ed25519 (0x04) signs a header, the time and the whole note text. ML-DSA-44 (0x06) signs a
structure of cosigner, time, origin, size and root, so that a log may sign its own checkpoints with it too.
On the signature line both are an 8-byte time and the signature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Final

from gateway.audit.checkpoint import parse_checkpoint
from gateway.audit.errors import NoteError, NoteSignatureError
from gateway.audit.note import (
    ED25519,
    Ed25519Verifier,
    NoteSignature,
    VerifierKey,
    check_key_name,
    parse_vkey,
)
from gateway.audit.tree import HASH_BYTES
from gateway.clock import Clock, system_clock
from gateway.errors import ConfigError
from gateway.evidence.keys import SIGNATURE_BYTES as ED25519_SIGNATURE_BYTES
from gateway.evidence.keys import SignatureError, SigningKey, VerifyKey
from gateway.evidence.ml_dsa import SIGNATURE_BYTES as ML_DSA_SIGNATURE_BYTES
from gateway.evidence.ml_dsa import MlDsaSigningKey, MlDsaVerifyKey

ED25519_COSIGNATURE: Final = 0x04
ML_DSA_COSIGNATURE: Final = 0x06

MAX_TIME_S: Final = 2**63 - 1
MAX_NAME_BYTES: Final = 255
"""Cosigner and origin stand behind one length byte in the ML-DSA-44 message."""

_TIME_BYTES: Final = 8
_SUBTREE_LABEL: Final = b"subtree/v1\n\x00"


def ed25519_message(text: str, time_s: int) -> bytes:
    """Return what an Ed25519 cosigner signs for the checkpoint `text` at POSIX time `time_s`."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def subtree_message(name: str, time_s: int, origin: str, start: int, end: int, root: bytes) -> bytes:
    """Return what the ML-DSA-44 cosigner `name` signs for the leaves from `start` to before `end`.

    `root` is their 32-byte root. For a checkpoint `start` is 0 and `end` its size; otherwise the time is
    0. Raises `NoteError` for what the structure cannot hold.
    """
    names = [name.encode(), origin.encode()]
    if any(not 1 <= len(raw) <= MAX_NAME_BYTES for raw in names):
        raise NoteError("Names of cosigners and logs have 1 to 255 bytes in an ML-DSA-44 cosignature.")
    if len(root) != HASH_BYTES or not 0 <= start <= end <= MAX_TIME_S or (start and time_s):
        raise NoteError(
            "A subtree has a 32-byte root, starts before it ends, and has no time unless it starts at 0."
        )
    cosigner, log = (bytes([len(raw)]) + raw for raw in names)
    return b"".join(
        (
            _SUBTREE_LABEL,
            cosigner,
            time_s.to_bytes(_TIME_BYTES, "big"),
            log,
            start.to_bytes(8, "big"),
            end.to_bytes(8, "big"),
            root,
        )
    )


class CosignatureVerifier(ABC):
    """The public key of a cosigner under its name; a `Verifier` of notes."""

    kind: int
    signature_bytes: int

    def __init__(self, name: str, public: bytes) -> None:
        """Take the key; raise `NoteError` if the name or the key is not usable."""
        check_key_name(name)
        self.name = name
        self.public = public
        self._vkey = VerifierKey(name, self.kind, public)
        self.key_id = self._vkey.key_id

    def vkey(self) -> str:
        """Return the verifier key in text form."""
        return self._vkey.to_text()

    def verify(self, text: str, signature: bytes) -> None:
        """Raise `NoteSignatureError` unless `signature` is this cosigner's over the checkpoint `text`."""
        self.cosigned_at_s(text, signature)

    def cosigned_at_s(self, text: str, signature: bytes) -> int:
        """Return the POSIX time in a cosignature that verifies; raise `NoteSignatureError` otherwise.

        0 means that the cosigner says nothing of the time: allowed for ML-DSA-44, never from a witness.
        """
        if len(signature) != _TIME_BYTES + self.signature_bytes:
            raise NoteSignatureError("A cosignature is an 8-byte time and a signature of its type's length.")
        time_s = int.from_bytes(signature[:_TIME_BYTES], "big")
        if time_s > MAX_TIME_S:
            raise NoteSignatureError("The time of a cosignature is beyond what may stand there.")
        try:
            self._verify(signature[_TIME_BYTES:], self._message(text, time_s))
        except SignatureError as error:
            raise NoteSignatureError(
                "A cosignature does not fit the checkpoint and the cosigner's key."
            ) from error
        return time_s

    @abstractmethod
    def _message(self, text: str, time_s: int) -> bytes:
        """Return the signed bytes."""

    @abstractmethod
    def _verify(self, signature: bytes, message: bytes) -> None:
        """Raise `SignatureError` unless the signature fits."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.key_id.hex()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CosignatureVerifier) and self._vkey == other._vkey

    def __hash__(self) -> int:
        return hash(self._vkey)


class Ed25519CosignatureVerifier(CosignatureVerifier):
    """A cosigner with an Ed25519 key (type 0x04).

    The signature does not cover the name: one key must never be used under two.
    """

    kind = ED25519_COSIGNATURE
    signature_bytes = ED25519_SIGNATURE_BYTES

    def __init__(self, name: str, public: bytes) -> None:
        """Take the 32-byte key; raise `NoteError` if the name or the key is not usable."""
        super().__init__(name, public)
        try:
            self._key = VerifyKey(public)
        except ConfigError as error:
            raise NoteError(error.message) from error

    def _message(self, text: str, time_s: int) -> bytes:
        return ed25519_message(text, time_s)

    def _verify(self, signature: bytes, message: bytes) -> None:
        self._key.verify(signature, message)


class MlDsaCosignatureVerifier(CosignatureVerifier):
    """A cosigner, or a log, with an ML-DSA-44 key (type 0x06)."""

    kind = ML_DSA_COSIGNATURE
    signature_bytes = ML_DSA_SIGNATURE_BYTES

    def __init__(self, name: str, public: bytes) -> None:
        """Take the 1312-byte key; raise `NoteError` if it is not usable, also for want of ML-DSA here."""
        super().__init__(name, public)
        try:
            self._key = MlDsaVerifyKey(public)
        except ConfigError as error:
            raise NoteError(error.message) from error

    def verify_subtree(self, origin: str, start: int, end: int, root: bytes, signature: bytes) -> None:
        """Raise unless `signature` (time and signature) is this cosigner's over the subtree.

        Its time must be 0 unless `start` is. Raises `NoteSignatureError` or, for a subtree that cannot be,
        `NoteError`.
        """
        time_s = int.from_bytes(signature[:_TIME_BYTES], "big")
        try:
            self._verify(
                signature[_TIME_BYTES:], subtree_message(self.name, time_s, origin, start, end, root)
            )
        except SignatureError as error:
            raise NoteSignatureError(
                "A cosignature does not fit the subtree and the cosigner's key."
            ) from error

    def _message(self, text: str, time_s: int) -> bytes:
        checkpoint = parse_checkpoint(text)
        return subtree_message(self.name, time_s, checkpoint.origin, 0, checkpoint.size, checkpoint.root)

    def _verify(self, signature: bytes, message: bytes) -> None:
        self._key.verify(signature, message)


class CosignatureSigner(ABC):
    """The private key of a cosigner under its name; a `Signer` of notes that stamps them with its clock."""

    verifier: CosignatureVerifier

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock

    def signature_line(self, text: str) -> str:
        """Return the cosignature line over the checkpoint `text` at this moment, with its newline."""
        return self.cosign(text, self._clock())

    def cosign(self, text: str, moment: datetime) -> str:
        """Return the cosignature line over the checkpoint `text` at `moment` (aware), with its newline.

        Raises `NoteError` if `text` is not a checkpoint or the time not one after 1970.
        """
        parse_checkpoint(text)
        time_s = int(moment.astimezone(UTC).timestamp())
        if time_s <= 0:
            raise NoteError("A cosignature needs a time after 1970; check the clock.")
        signature = time_s.to_bytes(_TIME_BYTES, "big") + self._sign(text, time_s)
        return NoteSignature(self.name, self.verifier.key_id, signature).line()

    @abstractmethod
    def _sign(self, text: str, time_s: int) -> bytes:
        """Return the signature without its time."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Ed25519CosignatureSigner(CosignatureSigner):
    """Cosigns with Ed25519 (type 0x04)."""

    def __init__(self, name: str, key: SigningKey, clock: Clock = system_clock) -> None:
        """Take the key; raise `NoteError` if the name is not usable."""
        super().__init__(name, clock)
        self._key = key
        self.verifier = Ed25519CosignatureVerifier(name, key.verify_key.public)

    def _sign(self, text: str, time_s: int) -> bytes:
        return self._key.sign(ed25519_message(text, time_s))


class MlDsaCosignatureSigner(CosignatureSigner):
    """Cosigns with ML-DSA-44 (type 0x06)."""

    def __init__(self, name: str, key: MlDsaSigningKey, clock: Clock = system_clock) -> None:
        """Take the key; raise `NoteError` if the name is not usable."""
        super().__init__(name, clock)
        self._key = key
        self.verifier = MlDsaCosignatureVerifier(name, key.verify_key.public)

    def _sign(self, text: str, time_s: int) -> bytes:
        checkpoint = parse_checkpoint(text)
        return self._key.sign(
            subtree_message(self.name, time_s, checkpoint.origin, 0, checkpoint.size, checkpoint.root)
        )


def cosigner_of(vkey: str) -> CosignatureVerifier:
    """Return the cosigner of a verifier key of type 0x04 or 0x06; raise `NoteError` for any other."""
    key = parse_vkey(vkey)
    if key.kind == ED25519_COSIGNATURE:
        return Ed25519CosignatureVerifier(key.name, key.public)
    if key.kind == ML_DSA_COSIGNATURE:
        return MlDsaCosignatureVerifier(key.name, key.public)
    raise NoteError(
        f"A cosigner's verifier key is of type 0x04 (Ed25519) or 0x06 (ML-DSA-44), not 0x{key.kind:02x}."
    )


LogVerifier = Ed25519Verifier | MlDsaCosignatureVerifier
"""The public key of a log: Ed25519 notes, or ML-DSA-44 cosignatures of its own checkpoints."""


def log_verifier_of(vkey: str) -> LogVerifier:
    """Return the log of a verifier key of type 0x01 or 0x06; raise `NoteError` for any other."""
    key = parse_vkey(vkey)
    if key.kind == ED25519:
        return Ed25519Verifier.from_vkey(vkey)
    if key.kind == ML_DSA_COSIGNATURE:
        return MlDsaCosignatureVerifier(key.name, key.public)
    raise NoteError(
        f"A log's verifier key is of type 0x01 (Ed25519) or 0x06 (ML-DSA-44), not 0x{key.kind:02x}."
    )
