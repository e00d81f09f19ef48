"""Pseudonyms: what identifiers become on their way to a recipient.

One subject has one pseudonym for each (recipient, purpose, key epoch). Without the epoch's key
nobody can tell that two of them are the same subject's (promise P6).
"""

from gateway.pseudonym.domain import Domain, derive_key
from gateway.pseudonym.errors import KeyEpochError, KeyringError, PseudonymError, PseudonymTextError
from gateway.pseudonym.keyring import SCHEME, KeyEpoch, Keyring
from gateway.pseudonym.scheme import DomainPseudonymiser, Pseudonymiser
from gateway.pseudonym.text import Pseudonym, parse_pseudonym

__all__ = [
    "SCHEME",
    "Domain",
    "DomainPseudonymiser",
    "KeyEpoch",
    "KeyEpochError",
    "Keyring",
    "KeyringError",
    "Pseudonym",
    "PseudonymError",
    "PseudonymTextError",
    "Pseudonymiser",
    "derive_key",
    "parse_pseudonym",
]
