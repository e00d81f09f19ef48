"""A disclosure shows chosen members of an entry and holds against whoever changes it."""

import base64
import itertools
import json

import msgspec
import pytest

from gateway.audit.disclosure import (
    Disclosure,
    DisclosureError,
    disclosed_fields,
    disclosure_statement,
    verify_disclosure,
)
from gateway.audit.fsck import fsck
from gateway.audit.proof import TlogProof
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.tree import leaf_hash
from gateway.errors import GatewayError
from gateway.evidence.fields import commit_fields, field_digest, fields_root, verify_fields
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind
from tests.unit.audit.conftest import ORIGIN

KEY = bytes(range(32))


@pytest.fixture
def trust(signer):
    return Trust(v=1, origin=ORIGIN, log_keys=(signer.verifier.vkey(),), gateway_keys={}, members={})


@pytest.fixture
def disclose(path, open_log, make_entry):
    """Return a function that logs an entry and its disclosure as the gateway would; lies may be added."""

    def disclose(*names, statement=None, subject=None, openings=None):
        with open_log(SqliteStore(path)) as log:
            for number in range(3):
                log.append_sync(make_entry(number))
            entry, seed = commit_fields(make_entry(7, purpose="credit-check"), KEY)
            committed = log.append_sync(entry)
            found = openings or verify_fields(entry, seed)
            detail = disclosure_statement(committed.leaf_hash, found, names) | (statement or {})
            stated = log.append_sync(
                make_entry(
                    8,
                    kind=EntryKind.ENTRY_DISCLOSED,
                    subject=subject or f"entries/{committed.index}",
                    detail=detail,
                )
            )
            log.append_sync(make_entry(9))
        with SqliteReader(path) as reader:
            size, note = reader.size(), reader.checkpoint()
            proofs = [
                TlogProof(at, reader.inclusion_proof(at, size), note).to_text()
                for at in (committed.index, stated.index)
            ]
            data = reader.entry(stated.index).data
        return Disclosure(
            leaf_hash=committed.leaf_hash,
            proof=proofs[0],
            fields=disclosed_fields(found, names),
            digests=found.digests,
            statement=data,
            statement_proof=proofs[1],
        )

    return disclose


def test_chosen_members_are_shown_and_nothing_else(disclose, trust):
    disclosure = disclose("consumer", "time")
    found = verify_disclosure(Disclosure.from_json(disclosure.to_json()), trust)
    assert found.fields == {"consumer": "bank-1", "time": "2026-03-01T12:00:00.007000Z"}
    assert (found.index, found.stated_index, found.checkpoint.size) == (3, 4, 6)
    text = disclosure.to_json().decode()
    assert "credit-check" not in text
    assert base64.b64encode(b"credit-check").decode()[:12] not in text


def test_a_holder_may_pass_on_fewer_members(disclose, trust):
    disclosure = disclose("consumer", "time")
    fewer = msgspec.structs.replace(disclosure, fields=disclosure.fields[:1])
    assert set(verify_disclosure(fewer, trust).fields) == {"consumer"}


@pytest.mark.parametrize("names", [(), ("nonsense",), ("fields",), ("consumer", "memorandum")])
def test_members_that_are_not_there_cannot_be_shown(disclose, names):
    with pytest.raises(DisclosureError):
        disclose(*names)


def changed(raw, number=0):
    return bytes([raw[0] ^ 1]) + raw[1:]


def swap_field(disclosure, **changes):
    first, *rest = disclosure.fields
    return msgspec.structs.replace(disclosure, fields=(msgspec.structs.replace(first, **changes), *rest))


LIES = {
    "another value": lambda d: swap_field(d, value=msgspec.Raw(b'"bank-2"')),
    "another name": lambda d: swap_field(d, name="provider"),
    "another salt": lambda d: swap_field(d, salt=changed(d.fields[0].salt)),
    "a short salt": lambda d: swap_field(d, salt=b""),
    "twice": lambda d: msgspec.structs.replace(d, fields=(d.fields[0], d.fields[0])),
    "another leaf": lambda d: msgspec.structs.replace(d, leaf_hash=changed(d.leaf_hash)),
    "a digest left out": lambda d: msgspec.structs.replace(d, digests=d.digests[1:]),
    "a digest changed": lambda d: msgspec.structs.replace(d, digests=(changed(d.digests[0]), *d.digests[1:])),
    "digests in another order": lambda d: msgspec.structs.replace(d, digests=d.digests[::-1]),
    "no digests": lambda d: msgspec.structs.replace(d, digests=()),
    "proofs exchanged": lambda d: msgspec.structs.replace(
        d, proof=d.statement_proof, statement_proof=d.proof
    ),
    "the statement changed": lambda d: msgspec.structs.replace(
        d, statement=d.statement.replace(b"bank", b"bonk")
    ),
    "no statement": lambda d: msgspec.structs.replace(d, statement=b"{}"),
}


@pytest.mark.parametrize("lie", LIES)
def test_whoever_changes_a_disclosure_is_found_out(disclose, trust, lie):
    disclosure = disclose("consumer", "time")
    assert verify_disclosure(disclosure, trust)
    with pytest.raises(GatewayError):
        verify_disclosure(LIES[lie](disclosure), trust)


def test_every_mutated_byte_of_the_file_is_found_out_or_means_the_same(disclose, trust):
    disclosure = disclose("consumer")
    text = disclosure.to_json()
    sound = verify_disclosure(disclosure, trust)
    for at in itertools.chain(range(0, len(text), 7), range(0, len(text), 11)):
        mutated = bytearray(text)
        mutated[at] ^= 1
        try:
            found = verify_disclosure(Disclosure.from_json(bytes(mutated)), trust)
        except GatewayError:
            continue
        assert found == sound


def test_another_logs_disclosure_does_not_verify(disclose, trust):
    other = msgspec.structs.replace(trust, origin="audit.example.net/log/2026")
    with pytest.raises(GatewayError):
        verify_disclosure(disclose("consumer"), other)


def test_a_member_that_the_log_does_not_say_was_shown_is_refused(disclose, trust):
    disclosure = disclose("consumer", statement={"fields": "time"})
    with pytest.raises(DisclosureError, match="does not say"):
        verify_disclosure(disclosure, trust)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b'{"mediaType":"x"}', b"[" * 100_000, b" " * 300_000],
)
def test_files_that_are_none_are_told(content):
    with pytest.raises(DisclosureError):
        Disclosure.from_json(content)


def forged(entry, **lies):
    """Openings under a root that commits to other members than the entry has."""
    liar, seed = commit_fields(msgspec.structs.replace(entry, fields={}, **lies), KEY)
    return verify_fields(liar, seed)


def test_a_keeper_of_the_log_who_lies_to_an_outsider_is_found_by_fsck(
    disclose, trust, path, signer, make_entry
):
    """The one lie that the outsider cannot see: fsck sees it, and needs no secret."""
    lie = disclose("consumer", openings=forged(make_entry(7, purpose="credit-check"), consumer="other-bank"))
    assert verify_disclosure(lie, trust).fields == {"consumer": "other-bank"}
    report = fsck(path, signer.verifier)
    assert [(finding.place, finding.index) for finding in report.findings] == [("entry", 4)]
    assert "outsider" in report.findings[0].what


def test_fsck_has_nothing_to_say_of_a_true_disclosure(disclose, path, signer):
    """The control."""
    disclose("consumer")
    assert fsck(path, signer.verifier).findings == ()


@pytest.mark.parametrize("subject", ["entries/4", "entries/99", "entries/x", "members/bank"])
def test_fsck_finds_a_statement_about_no_earlier_entry(disclose, path, signer, subject):
    disclose("consumer", subject=subject)
    assert len(fsck(path, signer.verifier).findings) == 1


def test_the_leaf_hash_cannot_be_guessed_from_what_is_shown(disclose, path):
    """Who is shown all members but one cannot try values of that one against the leaf hash: the blind."""
    disclosure = disclose("consumer")
    with SqliteReader(path) as reader:
        entry = msgspec.json.decode(reader.entry(3).data, type=Entry)
    assert leaf_hash(
        json.dumps(msgspec.to_builtins(entry), sort_keys=True, separators=(",", ":")).encode()
    ) == (disclosure.leaf_hash)
    without = msgspec.structs.replace(entry, fields={"root": entry.fields["root"], "blind": ""})
    from gateway.evidence.canonical import encode_canonical

    assert leaf_hash(encode_canonical(without)) != disclosure.leaf_hash
    assert base64.b64decode(entry.fields["blind"]) not in disclosure.to_json()
    assert entry.fields["blind"] not in disclosure.to_json().decode()


def test_a_decoy_is_no_member(disclose):
    disclosure = disclose("consumer")
    [field] = disclosure.fields
    own = field_digest(field.name, bytes(field.value), field.salt)
    assert own in disclosure.digests
    assert fields_root(disclosure.digests) != fields_root([own])
