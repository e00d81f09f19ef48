"""Who has signed, and what: nothing but the parties' own signatures over the very terms counts."""

from __future__ import annotations

import msgspec
import pytest

from gateway.contracts.document import encode_terms
from gateway.contracts.life_cycle import Standing
from gateway.contracts.signing import (
    CONTRACT_TYPE,
    open_signed,
    sign_terms,
    to_envelope,
    verified_version,
    verify_contract,
)
from gateway.contracts.version import PartySignature
from gateway.errors import Reason
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.model import ContractState
from tests.simulators.negotiated import AGENCY, BANK, COMPANY, KEYS, reason_of, terms_of

TERMS = terms_of()
PAYLOAD = encode_terms(TERMS)
STRANGER = SigningKey(b"\x77" * 32)


def keys_of(member):
    key = KEYS.get(member)
    return {} if key is None else {key.key_id: key.verify_key}


def envelope(*signers, payload=PAYLOAD, kind=CONTRACT_TYPE):
    return dsse.sign(payload, kind, signers)


def test_a_party_hands_in_its_signature():
    opened = open_signed(sign_terms(TERMS, KEYS[COMPANY]), COMPANY, keys_of(COMPANY))
    assert (opened.terms, opened.payload, opened.signature.member) == (TERMS, PAYLOAD, COMPANY)


@pytest.mark.parametrize(
    ("handed_in", "member", "reason"),
    [
        (envelope(), COMPANY, Reason.SIGNATURE_MISSING),
        (envelope(KEYS[AGENCY]), COMPANY, Reason.SIGNATURE_FOREIGN),
        (envelope(STRANGER), COMPANY, Reason.SIGNATURE_FOREIGN),
        (envelope(KEYS[BANK]), BANK, Reason.CONTRACT_NOT_PARTY),
        (envelope(KEYS[COMPANY], KEYS[AGENCY]), COMPANY, Reason.SIGNATURE_INVALID),
        (envelope(KEYS[COMPANY], KEYS[COMPANY]), COMPANY, Reason.SIGNATURE_INVALID),
        (envelope(KEYS[COMPANY], kind=dsse.payload_type("query")), COMPANY, Reason.SIGNATURE_INVALID),
        (envelope(KEYS[COMPANY], payload=b"{}"), COMPANY, Reason.CONTRACT_MALFORMED),
        (envelope(KEYS[COMPANY], payload=b"x" * 1_000_001), COMPANY, Reason.MESSAGE_TOO_LARGE),
    ],
    ids=[
        "none",
        "another party's",
        "nobody's",
        "no party",
        "two",
        "twice",
        "of another statement",
        "no terms",
        "too long",
    ],
)
def test_anything_else_is_refused(handed_in, member, reason):
    assert reason_of(open_signed, handed_in, member, keys_of(member)) is reason


def test_a_signature_over_other_bytes_is_refused():
    """Control: over these it is taken."""
    sound = sign_terms(TERMS, KEYS[COMPANY])
    altered = msgspec.structs.replace(sound, payload=PAYLOAD.replace(b"credit-check", b"credit-czech"))
    assert reason_of(open_signed, altered, COMPANY, keys_of(COMPANY)) is Reason.SIGNATURE_INVALID
    open_signed(sound, COMPANY, keys_of(COMPANY))


def test_anybody_can_verify_a_contract_without_a_gateway():
    verified = verify_contract(envelope(KEYS[COMPANY], KEYS[AGENCY]), keys_of)
    assert verified.is_complete
    assert verified.signed_by == (COMPANY, AGENCY)
    assert not verify_contract(envelope(KEYS[AGENCY]), keys_of).is_complete


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (envelope(), Reason.SIGNATURE_MISSING),
        (envelope(KEYS[COMPANY], STRANGER), Reason.SIGNATURE_FOREIGN),
        (envelope(KEYS[COMPANY], KEYS[BANK]), Reason.SIGNATURE_FOREIGN),
        (envelope(KEYS[COMPANY], KEYS[COMPANY]), Reason.SIGNATURE_INVALID),
        (envelope(*[KEYS[COMPANY]] * 9), Reason.SIGNATURE_INVALID),
        (envelope(KEYS[COMPANY], kind="text/plain"), Reason.SIGNATURE_INVALID),
        (
            msgspec.structs.replace(
                envelope(KEYS[COMPANY]), signatures=(dsse.Signature(KEYS[COMPANY].key_id, b"\x00" * 64),)
            ),
            Reason.SIGNATURE_INVALID,
        ),
    ],
)
def test_a_contract_that_does_not_verify_is_told(shown, reason):
    assert reason_of(verify_contract, shown, keys_of) is reason


def signature(member, *, key=None, **changes):
    key = key or KEYS[member]
    return msgspec.structs.replace(
        PartySignature(
            member=member,
            keyid=key.key_id,
            public=key.verify_key.public,
            sig=key.sign(dsse.pae(PAYLOAD, CONTRACT_TYPE)),
        ),
        **changes,
    )


def kept(*signatures, signed_by=(COMPANY, AGENCY)):
    standing = Standing(
        state=ContractState.ACTIVE, signed_by=signed_by, changed="2026-11-22T12:00:00.000000Z"
    )
    return verified_version(PAYLOAD, signatures, standing)


def test_what_is_kept_verifies_again():
    version = kept(signature(COMPANY), signature(AGENCY))
    assert verify_contract(to_envelope(version), keys_of).is_complete


@pytest.mark.parametrize(
    "signatures",
    [
        (signature(COMPANY),),
        (signature(COMPANY), signature(COMPANY)),
        (signature(COMPANY), signature(AGENCY), signature(BANK)),
        (signature(COMPANY), signature(AGENCY, sig=b"\x00" * 64)),
        (signature(COMPANY), signature(AGENCY, keyid=KEYS[BANK].key_id)),
        (signature(COMPANY), signature(AGENCY, public=STRANGER.verify_key.public)),
    ],
    ids=["one missing", "one twice", "no party's", "invalid", "another id", "another key"],
)
def test_what_was_edited_does_not(signatures):
    assert reason_of(kept, *signatures) is Reason.SIGNATURE_INVALID
