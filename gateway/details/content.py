"""What is kept of an entry beside the log: everything the entry only commits to."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.details.errors import DetailsAlteredError
from gateway.errors import GatewayError
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.commitment import verify_commitment
from gateway.evidence.dsse import Envelope
from gateway.model import Entry


class SubjectDetails(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked for, normalised. Its canonical JSON is what the entry's `subject` commits to."""

    field: str
    """The dataset's field that names the subjects; of a search, the kind of identifier. May be empty."""
    subjects: tuple[str, ...]
    filters: dict[str, str]


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The details of one entry."""

    v: int
    openings: dict[str, str]
    """Name of a commitment in the entry to its salt (base64)."""
    envelope: Envelope | None = None
    """The signed query: subjects, filters and actor as the consumer wrote them."""
    subject: SubjectDetails | None = None
    token: bytes | None = None
    """Of a search: what stood for the identifier searched for."""

    def encode(self) -> bytes:
        """Return the canonical JSON that is sealed."""
        return encode_canonical(self)

    @classmethod
    def decode(cls, raw: bytes) -> Details:
        """Read what `encode` wrote; raise `DetailsAlteredError`."""
        try:
            details = msgspec.json.decode(raw, type=cls)
        except DECODE_ERRORS as error:
            raise DetailsAlteredError("The details have not the form of details.") from error
        if details.v != 1:
            raise DetailsAlteredError("The details are of a version this release does not know.")
        return details

    def verify(self, entry: Entry) -> tuple[str, ...]:
        """Return which of the entry's commitments are opened; raise unless each that is stated opens.

        Raises `DetailsAlteredError`.
        """
        values: dict[str, Any] = {}
        if self.envelope is not None:
            values["query"] = self.envelope.payload
        if self.subject is not None:
            values["subject"] = encode_canonical(self.subject)
        if self.token is not None:
            values["token"] = self.token
        if values.keys() != self.openings.keys():
            raise DetailsAlteredError("The details do not hold what their openings are for.")
        for name, value in values.items():
            try:
                verify_commitment(entry.commitments.get(name, ""), self.openings[name], value)
            except GatewayError as error:
                raise DetailsAlteredError(
                    f"The details are not those that the entry commits to (`{name}`)."
                ) from error
        return tuple(sorted(values))
