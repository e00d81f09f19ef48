"""Verifying proofs (RFC 9162 section 2.1) and the text form of an offline proof (c2sp.org/tlog-proof)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, parse_decimal
from gateway.audit.errors import ConsistencyProofError, InclusionProofError, NoteError, ProofError
from gateway.audit.note import MAX_NOTE_CHARACTERS, Verifier, parse_note
from gateway.audit.tree import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, node_hash
from gateway.evidence.dsse import from_base64

MAX_PROOF_HASHES: Final = 63
"""A tree of 2^63-1 leaves is 63 nodes high."""
MAX_EXTRA_BYTES: Final = 16 * 1024
"""As large as the largest entry, which is the most that the extra line needs to carry."""
MAX_PROOF_CHARACTERS: Final = MAX_NOTE_CHARACTERS + 2 * MAX_EXTRA_BYTES + 64 * MAX_PROOF_HASHES

_HEADER: Final = "c2sp.org/tlog-proof@v1"


def verify_inclusion(leaf_hash: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> None:
    """Raise `InclusionProofError` unless the leaf stands at `index` in the tree of `size` and `root`.

    RFC 9162 section 2.1.3.2, whose steps the numbers name. All hashes are 32 bytes; `hashes` run
    from the leaf's sibling up to the root's child.
    """
    _check_hashes((leaf_hash, root, *hashes), InclusionProofError)
    if not 0 <= index < size <= MAX_SIZE:  # 1
        raise InclusionProofError("The proof's index lies outside its tree.")
    computed, _ = _climb(index, size - 1, (leaf_hash, *hashes), InclusionProofError)  # 2 to 5
    if not compare_digest(computed, root):
        raise InclusionProofError("The proof does not lead from the entry to the root.")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, hashes: Sequence[bytes]
) -> None:
    """Raise `ConsistencyProofError` unless the newer tree begins with all leaves of the older.

    RFC 9162 section 2.1.4.2, whose steps the numbers name; trees of size 0 and of equal size, which
    it leaves out, have an empty proof (c2sp.org/tlog-witness). All hashes are 32 bytes.
    """
    _check_hashes((old_root, new_root, *hashes), ConsistencyProofError)
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise ConsistencyProofError("The older tree is larger than the newer.")
    if old_size in {0, new_size}:
        _verify_trivial_consistency(old_size, old_root, new_size, new_root, hashes)
        return
    if not hashes:  # 1
        raise ConsistencyProofError("The proof has no hashes.")
    path = list(hashes)
    if old_size & (old_size - 1) == 0:  # 2
        path.insert(0, old_root)
    node, last = old_size - 1, new_size - 1  # 3
    while node & 1:  # 4
        node >>= 1
        last >>= 1
    new_computed, old_computed = _climb(node, last, path, ConsistencyProofError)  # 5 to 7
    if not (compare_digest(old_computed, old_root) and compare_digest(new_computed, new_root)):
        raise ConsistencyProofError("The newer tree does not extend the older.")


def _climb(node: int, last: int, path: Sequence[bytes], error: type[ProofError]) -> tuple[bytes, bytes]:
    """Hash along `path` from the node at position `node` of a row that ends at `last`, up to the root.

    Returns the root, and the root of the tree that would end with the node; raises `error` unless the
    path is exactly as long as the way. Both algorithms of RFC 9162 walk like this: the letters are
    those of steps 4 of section 2.1.3.2 and 6 of section 2.1.4.2.
    """
    whole = ending = path[0]
    for sibling in path[1:]:
        if last == 0:  # a
            raise error("The proof has too many hashes for its tree.")
        if node & 1 or node == last:  # b
            whole = node_hash(sibling, whole)
            ending = node_hash(sibling, ending)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            whole = node_hash(whole, sibling)
        node >>= 1  # c
        last >>= 1
    if last != 0:
        raise error("The proof has too few hashes for its tree.")
    return whole, ending


def _verify_trivial_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, hashes: Sequence[bytes]
) -> None:
    if hashes:
        raise ConsistencyProofError("The proof has too many hashes for its trees.")
    if old_size == 0 and not compare_digest(old_root, EMPTY_ROOT):
        raise ConsistencyProofError("The older tree is empty but has another root.")
    if old_size == new_size and not compare_digest(old_root, new_root):
        raise ConsistencyProofError("Two trees of one size have different roots: the log was forked.")


def _check_hashes(hashes: Sequence[bytes], error: type[ProofError]) -> None:
    if len(hashes) > MAX_PROOF_HASHES + 2 or any(len(item) != HASH_BYTES for item in hashes):
        raise error("A proof has at most 63 hashes of 32 bytes.")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof that stands alone: an index, the path to the root, and the signed checkpoint."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    """The checkpoint as a signed note, verbatim."""
    extra: bytes | None = None
    """Anything the application likes to carry along. Not authenticated."""

    def to_text(self) -> str:
        """Return the text of a `.tlog-proof` file."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append("extra " + base64.b64encode(self.extra).decode())
        lines.append(f"index {self.index}")
        lines.extend(base64.b64encode(item).decode() for item in self.hashes)
        return "\n".join(lines) + "\n\n" + self.checkpoint

    @classmethod
    def from_text(cls, text: str) -> TlogProof:
        """Read the text, strictly; raise `ProofError`. Only its form is checked."""
        if len(text) > MAX_PROOF_CHARACTERS:
            raise ProofError("The proof is too long.")
        head, blank, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        if not blank or lines.pop(0) != _HEADER:
            raise ProofError(f"A proof begins with the line {_HEADER} and ends in a checkpoint.")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = _parse_extra(lines.pop(0).removeprefix("extra "))
        if not lines or not lines[0].startswith("index "):
            raise ProofError("The proof names no index.")
        try:
            index = parse_decimal(lines.pop(0).removeprefix("index "))
            parse_note(checkpoint)
        except NoteError as error:
            raise ProofError(error.message) from error
        if len(lines) > MAX_PROOF_HASHES:
            raise ProofError("A proof has at most 63 hashes of 32 bytes.")
        try:
            hashes = tuple(from_base64(line, length=HASH_BYTES) for line in lines)
        except ValueError as error:
            raise ProofError("The hashes of a proof are 32 bytes in base64, one on each line.") from error
        return cls(index, hashes, checkpoint, extra)

    def verify(
        self, leaf_hash: bytes, verifiers: Iterable[Verifier], *, origin: str | None = None
    ) -> Checkpoint:
        """Return the verified checkpoint once it is proven to cover the leaf at `index`.

        Raises `NoteError` (the checkpoint: see `open_checkpoint`) or `InclusionProofError`.
        """
        checkpoint = open_checkpoint(self.checkpoint, verifiers, origin=origin)
        verify_inclusion(leaf_hash, self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


def _parse_extra(encoded: str) -> bytes:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProofError("The extra data of a proof is in base64.") from error
    if len(raw) > MAX_EXTRA_BYTES or base64.b64encode(raw).decode() != encoded:
        raise ProofError("The extra data of a proof is at most 16 KiB in base64.")
    return raw
