"""Signing terms, and verifying who has signed them (DSSE).

1. The payload type is `application/vnd.sluicegate.contract.v1+json`; the payload is the canonical text of
   the terms. All parties sign the same bytes.
2. A party's signature is by a key that was registered for that party when it signed.
3. Every signature that is there must verify, by a party each, no party twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.contracts.document import decode_terms, encode_terms, identity
from gateway.contracts.errors import ContractError, no_party
from gateway.contracts.life_cycle import Standing
from gateway.contracts.version import PartySignature, Version
from gateway.errors import Reason
from gateway.evidence import dsse
from gateway.evidence.keys import SignatureError, SigningKey, VerifyKey
from gateway.model import Terms

CONTRACT_TYPE: Final = dsse.payload_type("contract")

Keys = Mapping[str, VerifyKey]
"""Verification keys by key id."""


@dataclass(frozen=True, slots=True)
class SignedTerms:
    """Terms as one party hands them in, its signature verified."""

    payload: bytes
    terms: Terms
    signature: PartySignature


@dataclass(frozen=True, slots=True)
class VerifiedContract:
    """What an envelope proves."""

    id: str
    terms: Terms
    signed_by: tuple[str, ...]
    """The parties whose signatures it carries, sorted."""

    @property
    def is_complete(self) -> bool:
        """Whether every party has signed."""
        return len(self.signed_by) == len(self.terms.parties)


def sign_terms(terms: Terms, key: SigningKey) -> dsse.Envelope:
    """Return the envelope of `terms` with the signature of `key`; raise `ContractError`."""
    return dsse.sign(encode_terms(terms), CONTRACT_TYPE, [key])


def open_signed(envelope: dsse.Envelope, member: str, keys: Keys) -> SignedTerms:
    """Return the terms in `envelope` once the one signature on them is that of `member`, a party.

    `keys` are those registered for it. Raises `SignatureError` with `SIGNATURE_MISSING`,
    `SIGNATURE_FOREIGN` or `SIGNATURE_INVALID`, and `ContractError` with `CONTRACT_NOT_PARTY`,
    `CONTRACT_MALFORMED` or `MESSAGE_TOO_LARGE`.
    """
    if len(envelope.signatures) > 1:
        raise SignatureError("A party hands in its own signature and no other.")
    payload, key_id = dsse.verify(envelope, CONTRACT_TYPE, keys)
    terms = decode_terms(payload)
    if member not in {party.member for party in terms.parties}:
        raise no_party()
    signature = PartySignature(
        member=member, keyid=key_id, public=keys[key_id].public, sig=envelope.signatures[0].sig
    )
    return SignedTerms(payload, terms, signature)


def verified_version(payload: bytes, signatures: tuple[PartySignature, ...], standing: Standing) -> Version:
    """Return the version that was kept so; raise `GatewayError` unless every signature verifies again.

    The keys stand beside the signatures: who held them at that time, the log tells.
    """
    terms = decode_terms(payload)
    message = dsse.pae(payload, CONTRACT_TYPE)
    for signature in signatures:
        key = VerifyKey(signature.public)
        if key.key_id != signature.keyid:
            raise SignatureError("A key does not have the id it is kept under.")
        key.verify(signature.sig, message)
    signers = [signature.member for signature in signatures]
    parties = {party.member for party in terms.parties}
    if len(set(signers)) != len(signers) or not parties.issuperset(signers):
        raise SignatureError("Somebody who is no party has signed the contract, or a party twice.")
    if tuple(sorted(signers)) != standing.signed_by:
        raise SignatureError("The contract is said to be signed by others than have signed it.")
    return Version(payload=payload, terms=terms, signatures=signatures, standing=standing)


def to_envelope(version: Version) -> dsse.Envelope:
    """Return the terms with the signatures of all who have signed."""
    return dsse.Envelope(
        payload=version.payload,
        payload_type=CONTRACT_TYPE,
        signatures=tuple(dsse.Signature(item.keyid, item.sig) for item in version.signatures),
    )


def verify_contract(envelope: dsse.Envelope, keys_of: Callable[[str], Keys]) -> VerifiedContract:
    """Return what `envelope` proves by the keys of the parties; needs no gateway.

    `keys_of` gives the keys that are known of a member. Raises `SignatureError` unless every signature is
    by one party each and verifies, and `ContractError`.
    """
    if envelope.payload_type != CONTRACT_TYPE:
        raise SignatureError(f"The envelope's payload type must be {CONTRACT_TYPE}.")
    if not envelope.signatures:
        raise SignatureError("The envelope carries no signature.", reason=Reason.SIGNATURE_MISSING)
    if len(envelope.signatures) > dsse.MAX_SIGNATURES:
        raise SignatureError(f"An envelope carries at most {dsse.MAX_SIGNATURES} signatures.")
    terms = decode_terms(envelope.payload)
    owners = {
        key_id: (party.member, key)
        for party in terms.parties
        for key_id, key in keys_of(party.member).items()
    }
    message = dsse.pae(envelope.payload, CONTRACT_TYPE)
    signed_by: set[str] = set()
    for signature in envelope.signatures:
        if signature.keyid not in owners:
            raise SignatureError(
                "A signature is by a key that is no party's; take the newest trust file.",
                reason=Reason.SIGNATURE_FOREIGN,
            )
        member, key = owners[signature.keyid]
        key.verify(signature.sig, message)
        if member in signed_by:
            raise SignatureError("A party has signed twice.")
        signed_by.add(member)
    return VerifiedContract(identity(envelope.payload), terms, tuple(sorted(signed_by)))


def require_same(version: Version, signed: SignedTerms) -> None:
    """Raise `ContractError` unless what was signed are the very terms that were proposed."""
    if version.payload != signed.payload:
        raise ContractError(
            "These are not the terms that were proposed: they were altered after the first signature. Fetch "
            "the contract anew and sign that, or answer it with your own (`gateway contract counter`).",
            reason=Reason.CONTRACT_ALTERED,
        )
