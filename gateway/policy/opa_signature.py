"""OPA's own signature of a bundle: `.signatures.json`, one JWT over the names and hashes of all files.

What OPA describes at https://www.openpolicyagent.org/docs/management-bundles/#signing. Structured files
(`data.json`, `.manifest`) are hashed as parsed JSON with sorted keys, all others as bytes. The JWT is an
EdDSA JWS in compact form (RFC 7515, RFC 8037). This gateway never relies on it: it verifies the approvals.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.evidence.keys import SigningKey

SIGNATURES_FILE: Final = ".signatures.json"
ALGORITHM: Final = "EdDSA"
"""What `opa run --signing-alg` is to be told."""
_STRUCTURED: Final = frozenset({"data.json", ".manifest"})


def sign_files(files: Mapping[str, bytes], key: SigningKey) -> bytes:
    """Return the content of `.signatures.json` for `files` by path; it lists every one of them."""
    listed = [
        {"name": path, "hash": hash_file(path, files[path]), "algorithm": "SHA-256"} for path in sorted(files)
    ]
    header = {"alg": ALGORITHM, "kid": key.key_id, "typ": "JWT"}
    signed = f"{_encode(header)}.{_encode({'files': listed, 'keyid': key.key_id})}"
    token = f"{signed}.{_base64url(key.sign(signed.encode()))}"
    return msgspec.json.encode({"signatures": [token]})


def hash_file(path: str, content: bytes) -> str:
    """Return the hex SHA-256 that OPA wants of the file `content` at `path`."""
    if path.rpartition("/")[2] in _STRUCTURED:
        content = canonical_json(msgspec.json.decode(content))
    return hashlib.sha256(content).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return `value` as Go's encoder writes it with sorted keys, which is what OPA hashes."""
    encoded = msgspec.json.encode(value, order="sorted").decode()
    return encoded.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def _encode(value: Any) -> str:
    return _base64url(msgspec.json.encode(value))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
