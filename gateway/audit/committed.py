"""What the log answers to an append: the place of the entry and all that proves it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.audit.proof import TlogProof
from gateway.audit.tree import Batch


@dataclass(frozen=True, slots=True)
class Committed:
    """An entry that is durable, under a signed checkpoint that covers it."""

    index: int
    data: bytes
    """The entry as it stands in the log: the leaf, with its number if it has one."""
    leaf_hash: bytes
    size: int
    """Size of the tree under the checkpoint."""
    checkpoint_note: str
    proof: Batch | tuple[bytes, ...]
    """The append the entry came in with, whose proofs are computed when asked for; or the proof itself."""
    sequence: int | None = None
    """The number that the log gave it, if it awaited one."""

    @property
    def inclusion_hashes(self) -> tuple[bytes, ...]:
        """The inclusion proof under the checkpoint, from the leaf's sibling up."""
        proof = self.proof
        return proof if isinstance(proof, tuple) else proof.inclusion_proof(self.index - proof.first)

    def tlog_proof(self, extra: bytes | None = None) -> str:
        """Return the proof as the text of a `.tlog-proof` file."""
        return TlogProof(self.index, self.inclusion_hashes, self.checkpoint_note, extra).to_text()
