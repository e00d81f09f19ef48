"""An exchange is dropped from the log, and everything made and signed anew, while its receipt is out."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audit.appender import Appender
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.committed import Committed
from gateway.audit.errors import ConsistencyProofError, InclusionProofError
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.proof import verify_consistency, verify_inclusion
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.model.entry import Entry
from tests.simulators.appender import ORIGIN, entry

DROPPED = 4


def make_log(path: Path, signer: Ed25519Signer, entries: list[Entry]) -> list[Committed]:
    """Make a log with the key that is stolen; return what stands in each exchange's receipt."""
    with SqliteStore(path) as store:
        appender = Appender(store, signer, origin=ORIGIN)
        outcomes = [appender.append([prepare_entry(item)])[0] for item in entries]
    return [outcome for outcome in outcomes if isinstance(outcome, Committed)]


@pytest.mark.parametrize("at", range(10))
def test_every_receipt_from_the_dropped_exchange_on_contradicts_the_log_made_anew(
    path: Path, signer: Ed25519Signer, at: int
) -> None:
    entries = [entry(number) for number in range(10)]
    receipt = make_log(path, signer, entries)[at]
    issued = open_checkpoint(receipt.checkpoint_note, [signer.verifier], origin=ORIGIN)
    verify_inclusion(receipt.leaf_hash, at, issued.size, receipt.inclusion_hashes, issued.root)

    anew = path.with_name("anew.db")
    make_log(anew, signer, entries[:DROPPED] + entries[DROPPED + 1 :] + [entry(11), entry(12)])
    # The control: with the key, and for who holds no receipt, there is nothing to see.
    assert fsck(anew, signer.verifier).findings == ()
    with SqliteReader(anew) as reader:
        shown = open_checkpoint(reader.checkpoint(), [signer.verifier], origin=ORIGIN)
        path_to_head = reader.inclusion_proof(at, shown.size)
        extension = reader.consistency_proof(issued.size, shown.size)
    if at < DROPPED:
        verify_inclusion(receipt.leaf_hash, at, shown.size, path_to_head, shown.root)
        verify_consistency(issued.size, issued.root, shown.size, shown.root, extension)
        return
    with pytest.raises(InclusionProofError):
        verify_inclusion(receipt.leaf_hash, at, shown.size, path_to_head, shown.root)
    with pytest.raises(ConsistencyProofError):
        verify_consistency(issued.size, issued.root, shown.size, shown.root, extension)
