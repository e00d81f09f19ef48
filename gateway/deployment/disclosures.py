"""Showing chosen fields of one entry to an outsider, who verifies them; the log says so first."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.disclosure import Disclosure, disclosed_fields, disclosure_statement
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.tree import leaf_hash
from gateway.clock import Clock, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.changes import record_change
from gateway.deployment.reasons import check_reason
from gateway.details.deployed import read_fields_key
from gateway.errors import ConfigError, GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.fields import field_seed, verify_fields
from gateway.evidence.keys import SigningKey
from gateway.model import Entry, EntryKind


def disclose_entry(
    config: GatewayConfig,
    index: int,
    names: Sequence[str],
    *,
    reason: str,
    by: str,
    clock: Clock = system_clock,
) -> tuple[Disclosure, int]:
    """Return the disclosure of the members `names` of entry `index`, and the entry that says so.

    Raises `FieldsError` if the entry carries no commitment to its members, `DisclosureError` if it has
    no such member, `ConfigError`.
    """
    check_reason(reason)
    check_reason(by, what="--by")
    if config.disclosure is None:
        raise ConfigError(
            "Entries of this log cannot be shown in part: the configuration has no section [disclosure]."
        )
    key = read_fields_key(config.disclosure)
    with SqliteReader(config.log.database) as reader:
        data = reader.entry(index).data
        entry = _parse(data)
        openings = verify_fields(entry, field_seed(entry, key))
        fields = disclosed_fields(openings, names)
        stated = disclosure_statement(leaf_hash(data), openings, [field.name for field in fields])
        recorded = record_change(
            config,
            EntryKind.ENTRY_DISCLOSED,
            f"entries/{index}",
            {**stated, "reason": reason, "by": by},
            clock=clock,
        )
        verifier = Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)
        note = reader.checkpoint()
        size = open_checkpoint(note, [verifier], origin=verifier.name).size
        proofs = [TlogProof(at, reader.inclusion_proof(at, size), note).to_text() for at in (index, recorded)]
        disclosure = Disclosure(
            leaf_hash=leaf_hash(data),
            proof=proofs[0],
            fields=fields,
            digests=openings.digests,
            statement=reader.entry(recorded).data,
            statement_proof=proofs[1],
        )
    return disclosure, recorded


def _parse(data: bytes) -> Entry:
    try:
        return msgspec.json.decode(data, type=Entry)
    except DECODE_ERRORS as error:
        raise GatewayError(
            "The entry has not the form of one; run `gateway audit fsck`.", reason=Reason.PROOF_INVALID
        ) from error
