"""A log that grows in memory, and witnesses of it."""

from datetime import UTC, datetime

import pytest

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.cosignature import Ed25519CosignatureSigner
from gateway.audit.note import Ed25519Signer
from gateway.audit.prover import TreeHashes
from gateway.audit.tiles import TILE_WIDTH
from gateway.audit.tree import EMPTY_ROOT, leaf_hash, node_hash
from gateway.clock import FixedClock
from gateway.evidence.keys import SigningKey
from gateway.witness.state import WitnessState
from gateway.witness.submission import Submission
from gateway.witness.witness import Witness

ORIGIN = "audit.example.org/log/2026"
NAME = "witness.example.org/w1"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class MemoryLog:
    """A log of up to 65,536 leaves; `fork` branches off another with the same key."""

    def __init__(self, signer, leaves=()):
        self.signer = signer
        self.leaves = list(leaves)

    def grow(self, count, salt=b""):
        start = len(self.leaves)
        self.leaves += [leaf_hash(salt + number.to_bytes(4, "big")) for number in range(start, start + count)]
        return self

    def fork(self, size, count):
        return MemoryLog(self.signer, self.leaves[:size]).grow(count, salt=b"another")

    def tile(self, level, number, width):
        row = self.leaves
        for _ in range(8 * level):
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        return b"".join(row[number * TILE_WIDTH :][:width])

    def root(self, size):
        return TreeHashes(self, size).root_of(0, size) if size else EMPTY_ROOT

    def size(self):
        return len(self.leaves)

    def checkpoint(self, size=None):
        size = self.size() if size is None else size
        return sign_checkpoint(Checkpoint(self.signer.name, size, self.root(size)), self.signer)

    def proof(self, old, size):
        return TreeHashes(self, size).consistency_proof(old)

    def submission(self, old, size=None, note=None):
        size = self.size() if size is None else size
        return Submission.of(old, self.proof(old, size), note or self.checkpoint(size))


@pytest.fixture
def log():
    return MemoryLog(Ed25519Signer.from_seed(ORIGIN, bytes(range(32))))


@pytest.fixture
def clock():
    return FixedClock(NOON)


@pytest.fixture
def signer(clock):
    return Ed25519CosignatureSigner(NAME, SigningKey(bytes([9]) * 32), clock)


@pytest.fixture
def state(tmp_path, log):
    with WitnessState.create(tmp_path / "witness.db") as state:
        state.add_key(ORIGIN, log.signer.verifier.vkey())
        yield state


@pytest.fixture
def witness(state, signer, clock):
    return Witness(state, [signer], clock=clock)
