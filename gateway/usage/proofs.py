"""Where proofs come from when a statement is verified: a file, or the log's site (c2sp.org/tlog-tiles)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec

from gateway.audit.errors import LogUnavailableError
from gateway.audit.prover import KnownTiles, TreeHashes
from gateway.audit.tiles import Tile, tile_path
from gateway.audit.tree import HASH_BYTES
from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS

TIMEOUT_S: Final = 10.0


class EvidenceLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of a file of entries: what `gateway usage statement --entries` keeps, one for each entry."""

    index: int
    entry: msgspec.Raw
    """The leaf, byte for byte."""
    proof: tuple[bytes, ...] | None = None
    """Its inclusion proof in the tree of the statement, from the leaf's sibling up."""


class FileProofs:
    """The proofs that stand beside the entries in a file."""

    def __init__(self, proofs: Mapping[int, tuple[bytes, ...]]) -> None:
        self._proofs = proofs

    def of(self, index: int, size: int) -> tuple[bytes, ...]:  # noqa: ARG002 - it is of one size only
        """Return the proof of an entry; raise `GatewayError` if the file has none."""
        proof = self._proofs.get(index)
        if proof is None:
            raise GatewayError(
                "The file has no proof for an entry of the statement; name the log's site with --log-url.",
                reason=Reason.PROOF_INVALID,
            )
        return proof


class SiteProofs:
    """Proofs made here from the tiles that the log's site shows to everybody: hashes, no entries."""

    def __init__(self, url: str) -> None:
        """Take the site's address, http only on loopback; raise `GatewayError` if it is none."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise GatewayError("--log-url takes an http or https address.", reason=Reason.REQUEST_MALFORMED)
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise GatewayError(
                "The log's site is read over https; http only from this machine itself.",
                reason=Reason.REQUEST_MALFORMED,
            )
        self._url = url.rstrip("/")
        self._opener = build_opener(_NoRedirects)
        self._known = KnownTiles()
        self._trees: dict[int, TreeHashes] = {}

    def of(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the inclusion proof of an entry; raise `LogUnavailableError` if a tile cannot be had."""
        tree = self._trees.setdefault(size, TreeHashes(self, size, self._known))
        return tree.inclusion_proof(index)

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile."""
        address = f"{self._url}/{tile_path(Tile(level, number, width))}"
        try:
            with self._opener.open(Request(address), timeout=TIMEOUT_S) as answer:  # noqa: S310 - its scheme is known
                content = bytes(answer.read(width * HASH_BYTES + 1))
        except OSError as error:
            raise LogUnavailableError(
                "The log's site cannot be read; check --log-url, or try again."
            ) from error
        if len(content) != width * HASH_BYTES:
            raise LogUnavailableError("The log's site does not show the tiles of this log.")
        return content


def read_evidence(lines: Iterable[bytes]) -> tuple[dict[int, bytes], dict[int, tuple[bytes, ...]]]:
    """Return the leaves and the proofs in a file of entries, by index; raise `GatewayError` if it is none."""
    decoder = msgspec.json.Decoder(EvidenceLine)
    entries: dict[int, bytes] = {}
    proofs: dict[int, tuple[bytes, ...]] = {}
    try:
        for line in lines:
            read = decoder.decode(line)
            entries[read.index] = bytes(read.entry)
            if read.proof is not None:
                proofs[read.index] = read.proof
    except DECODE_ERRORS as error:
        raise GatewayError(
            "The file does not hold entries, one JSON object a line.", reason=Reason.PROOF_INVALID
        ) from error
    return entries, proofs


def write_evidence(index: int, data: bytes, proof: tuple[bytes, ...] | None) -> bytes:
    """Return the line of an entry."""
    return msgspec.json.encode(EvidenceLine(index=index, entry=msgspec.Raw(data), proof=proof)) + b"\n"


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none."""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
