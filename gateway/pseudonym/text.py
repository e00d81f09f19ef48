"""The text form of pseudonyms: `sg1:<recipient>.<purpose>:<epoch>:<token>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.model import NAME_PATTERN
from gateway.pseudonym.domain import Domain
from gateway.pseudonym.encoding import TOKEN_LENGTH
from gateway.pseudonym.errors import PseudonymTextError
from gateway.pseudonym.keyring import EPOCH_PATTERN, SCHEME

_PSEUDONYM: Final = re.compile(
    rf"(?P<scheme>{SCHEME}):(?P<recipient>{NAME_PATTERN})\.(?P<purpose>{NAME_PATTERN})"
    rf":(?P<epoch>{EPOCH_PATTERN}):(?P<token>[a-z2-7]{{{TOKEN_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """A pseudonym taken apart. Its text says who may hold it, for what, and which epoch's key made it."""

    scheme: str
    domain: Domain
    epoch: str
    token: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.domain}:{self.epoch}:{self.token}"


def parse_pseudonym(text: str) -> Pseudonym:
    """Take a pseudonym apart; raise `PseudonymTextError` if `text` is not exactly one."""
    match = _PSEUDONYM.fullmatch(text)
    if match is None:
        raise PseudonymTextError(
            "A text is not a pseudonym of this gateway's scheme; pass it on exactly as it was received.",
            kind="pseudonym",
            problem="form",
        )
    return Pseudonym(
        match["scheme"], Domain(match["recipient"], match["purpose"]), match["epoch"], match["token"]
    )
