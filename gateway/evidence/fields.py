"""Salted digests of an entry's members: what lets some of them be shown without the others.

The leaf of an entry is its JSON in clear, so whoever may not read the entry cannot hash it. The
entry therefore carries a commitment to its own members, one by one:

    seed            HMAC-SHA256(key, the entry without `fields` and `sequence`, canonical)
    stream          SHAKE-256(seed): blind (16 bytes), a salt (16) for each member in the order of
                    names, then 32 bytes for each decoy
    field digest    SHA-256(0x00 || salt || canonical JSON of [name, value])
    root            SHA-256(0x01 || all digests, decoys among them, in rising order)

Decoys fill up to a multiple of 32, so that the number of digests does not tell which members there
are, and neither does their order. Nothing is stored: whoever has the key, and the recipient who has
the seed, compute all of it anew. The blind keeps those who know some members and the entry's leaf
hash from finding the others by trying. The shape is that of SD-JWT (RFC 9901 section 4.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import encode_canonical
from gateway.model import Entry

KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 32
DIGESTS_MULTIPLE: Final = 32
"""Digests are filled up to a multiple of this: more than the members of most entries."""

FIELDS: Final = "fields"
"""The member that holds the commitment. It is not among the members committed to, and neither is
`sequence`: the log gives that number when the entry, with its commitment, is on its way already."""

_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BLIND_BYTES: Final = 16
_FIELD: Final = b"\x00"
_ROOT: Final = b"\x01"


class FieldsError(GatewayError):
    """The commitment to an entry's members is missing, or is not to these members."""

    reason = Reason.PROOF_INVALID


@dataclass(frozen=True, slots=True)
class FieldOpenings:
    """What opens the commitment of one entry."""

    values: dict[str, bytes]
    """Member name to value, as canonical JSON."""
    salts: dict[str, bytes]
    """Member name to its 16 bytes of salt."""
    digests: tuple[bytes, ...]
    """All digests, decoys among them, in rising order."""
    root: bytes
    blind: bytes

    @property
    def commitment(self) -> dict[str, str]:
        """The entry's member `fields`."""
        return {"root": base64.b64encode(self.root).decode(), "blind": base64.b64encode(self.blind).decode()}


def commit_fields(entry: Entry, key: bytes) -> tuple[Entry, bytes]:
    """Return `entry`, which has none yet, with the commitment to its members; and the seed that opens it."""
    content = _content(entry)
    seed = _seed(content, key)
    return msgspec.structs.replace(entry, fields=_open(content, seed).commitment), seed


def field_seed(entry: Entry, key: bytes) -> bytes:
    """Return the seed (32 bytes) of the salts of `entry`, whose `fields` and `sequence` are left out."""
    return _seed(_content(entry), key)


def verify_fields(entry: Entry, seed: bytes) -> FieldOpenings:
    """Return what opens the commitment that `entry` carries; raise `FieldsError` if `seed` does not."""
    if not entry.fields:
        raise FieldsError("This entry carries no commitment to its members; none can be shown alone.")
    openings = _open(_content(entry), seed)
    if openings.commitment != entry.fields:
        raise FieldsError("The entry's commitment to its members is not to the members that stand in it.")
    return openings


def field_digest(name: str, value: bytes, salt: bytes) -> bytes:
    """Return the 32-byte digest of one member, whose `value` is canonical JSON."""
    return hashlib.sha256(_FIELD + salt + b'["' + name.encode() + b'",' + value + b"]").digest()


def fields_root(digests: Iterable[bytes]) -> bytes:
    """Return the 32-byte root over the digests, which must be in rising order."""
    return hashlib.sha256(_ROOT + b"".join(digests)).digest()


def _content(entry: Entry) -> bytes:
    if entry.fields or entry.sequence is not None:
        entry = msgspec.structs.replace(entry, fields={}, sequence=None)
    return encode_canonical(entry)


def _seed(content: bytes, key: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")


def _open(content: bytes, seed: bytes) -> FieldOpenings:
    # Canonical JSON lists the members in the order of their names.
    values = {name: bytes(value) for name, value in _decode_members(content).items()}
    decoys = -len(values) % DIGESTS_MULTIPLE
    stream = hashlib.shake_256(seed).digest(_BLIND_BYTES + SALT_BYTES * len(values) + DIGEST_BYTES * decoys)
    salts = {}
    digests = []
    at = _BLIND_BYTES
    for name, value in values.items():
        salt = salts[name] = stream[at : at + SALT_BYTES]
        digests.append(field_digest(name, value, salt))
        at += SALT_BYTES
    digests += [stream[start : start + DIGEST_BYTES] for start in range(at, len(stream), DIGEST_BYTES)]
    digests.sort()
    return FieldOpenings(values, salts, tuple(digests), fields_root(digests), stream[:_BLIND_BYTES])
