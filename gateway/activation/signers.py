"""Who may sign an activation, and whether enough of them have. Pure: bytes in, verified or raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from gateway.activation.errors import ActivationError
from gateway.activation.statement import (
    ACTIVATION_TYPE,
    ActivationStatement,
    parse_statement,
    statement_digest,
)
from gateway.config import ActivationConfig
from gateway.evidence import dsse
from gateway.evidence.keys import VerifyKey


@dataclass(frozen=True, slots=True)
class Signer:
    """One key of one person."""

    person: str
    key: VerifyKey


@dataclass(frozen=True, slots=True)
class Approval:
    """A statement that enough people have signed."""

    statement: ActivationStatement
    digest: str
    """Of the statement's bytes."""
    authors: tuple[Signer, ...]
    approvers: tuple[Signer, ...]

    @property
    def persons(self) -> tuple[str, ...]:
        """Who has signed, sorted."""
        return tuple(sorted({signer.person for signer in (*self.authors, *self.approvers)}))


@dataclass(frozen=True, slots=True)
class Signers:
    """Authors and approvers of a deployment by key id, and how many persons it takes.

    A key stands on one side only (the configuration refuses it otherwise). A person may have a key on each,
    but counts once.
    """

    authors: Mapping[str, Signer]
    approvers: Mapping[str, Signer]
    threshold: int
    max_age: timedelta

    @classmethod
    def of(cls, config: ActivationConfig) -> Signers:
        """Return those whom `config` names."""

        def by_key(listed: tuple[tuple[str, VerifyKey], ...]) -> dict[str, Signer]:
            return {key.key_id: Signer(person, key) for person, key in listed}

        return cls(
            authors=by_key(tuple((each.person, each.verify_key) for each in config.authors)),
            approvers=by_key(tuple((each.person, each.verify_key) for each in config.approvers)),
            threshold=config.threshold,
            max_age=timedelta(hours=config.max_age_h),
        )

    def verify(self, envelope: dsse.Envelope) -> Approval:
        """Return what was approved; raise `ActivationError` or `SignatureError` unless enough have signed.

        1. Every signature by a known key verifies over the statement; those by unknown keys do not count.
        2. At least one is by an author's key.
        3. At least one is by an approver's key, of another person than an author who has signed.
        4. As many different persons have signed as the threshold asks for.
        """
        known = {**self.authors, **self.approvers}
        found = {item.keyid: known[item.keyid] for item in envelope.signatures if item.keyid in known}
        for key_id, signer in found.items():  # 1
            dsse.verify(envelope, ACTIVATION_TYPE, {key_id: signer.key})
        authors = tuple(signer for key_id, signer in found.items() if key_id in self.authors)
        approvers = tuple(signer for key_id, signer in found.items() if key_id in self.approvers)
        if not authors:  # 2
            raise ActivationError("No policy author named in the configuration has signed this approval.")
        if not approvers:  # 3
            raise ActivationError("No approver named in the configuration has signed this approval.")
        if not any(author.person != approver.person for author in authors for approver in approvers):
            raise ActivationError(
                "Author and approver of this approval are the same person; another person must approve."
            )
        persons = {signer.person for signer in found.values()}
        if len(persons) < self.threshold:  # 4
            raise ActivationError(
                f"Only {len(persons)} persons have signed this approval; it takes {self.threshold}.",
                signed=len(persons),
                threshold=self.threshold,
            )
        return Approval(
            parse_statement(envelope.payload), statement_digest(envelope.payload), authors, approvers
        )
