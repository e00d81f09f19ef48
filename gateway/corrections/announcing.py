"""Announcing: the holder says that records are corrected or withdrawn, and who received them is found.

    1 admit     who calls                      4 look up    who received them, as the log confirms
    2 open      its signed statement           5 prepare    what each is told, sealed; nobody sees it yet
    3 resolve   its dataset, the records' keys 6 record     the announcement, once
    7 publish   to the recipients' streams

A crash after 5 leaves something prepared. `finish` publishes it if the log has its entry, and forgets it
if not.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Final

from gateway.audit.errors import OnceTakenError
from gateway.audit.store import Once
from gateway.catalogue import Catalogue
from gateway.clock import parse_rfc3339, rfc3339
from gateway.corrections.attempt import Attempt, CorrectionLog
from gateway.corrections.departures import Departures
from gateway.corrections.notices import (
    Announced,
    CorrectionStatus,
    Notices,
    RecipientState,
    SealedNotice,
)
from gateway.corrections.register import Register
from gateway.corrections.telling import notices, record_keys
from gateway.corrections.tokens import CorrectionKeys
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.correction import (
    MAX_CLOCK_SKEW,
    Correction,
    Notice,
    Opened,
    open_correction,
    payload_digest,
    verify_made_now,
)
from gateway.exchange.call import Call
from gateway.exchange.state import new_exchange_id
from gateway.model import Dataset, EntryKind, Member
from gateway.pseudonym import Pseudonymiser

METHOD: Final = "AnnounceCorrection"
UNFINISHED_AFTER: Final = timedelta(minutes=1)
"""Longer than an append lasts, however loaded the log: what is still prepared then was left behind."""


class Announcing:
    """Takes announcements. One instance serves all calls of a process, on its event loop."""

    def __init__(
        self,
        log: CorrectionLog,
        catalogue: Catalogue,
        register: Register,
        stored: Notices,
        keys: CorrectionKeys,
        pseudonymiser: Pseudonymiser,
    ) -> None:
        self._log = log
        self._catalogue = catalogue
        self._register = register
        self._stored = stored
        self._keys = keys
        self._pseudonymiser = pseudonymiser
        self._departures = Departures(log.readers)
        # One at a time: each goes through years of releases.
        self._turn = asyncio.Lock()

    async def announce(self, call: Call, envelope: dsse.Envelope) -> CorrectionStatus:
        """Record and pass on the announcement in `envelope`; return it with its recipients.

        Raises `GatewayError`, whose details name the entry that tells of the refusal.
        """
        attempt = Attempt(call, METHOD)
        try:
            member = self._log.admit(attempt, None)
            opened = self._open(attempt, member, envelope)
            dataset = self._resolve(attempt, member, opened.statement)
            async with self._turn:
                correction, told = await asyncio.to_thread(self._prepare, opened.statement, member, dataset)
            attempt.correction = correction.id
            index = await self._record(correction, opened, told)
            await asyncio.to_thread(self._stored.publish, correction.id, index)
        except Exception as error:
            refusal = await self._log.refuse(attempt, error)
            if refusal is error:
                raise
            raise refusal from error
        return CorrectionStatus(
            replace(correction, entry=index),
            tuple(RecipientState(notice.recipient, "", "", "") for notice in told),
        )

    def finish(self) -> None:
        """Publish or forget what a crash has left prepared. Blocks; raises `GatewayError`."""
        for correction in self._stored.prepared(self._log.clock() - UNFINISHED_AFTER):
            found = self._log.recorded(EntryKind.CORRECTION_ANNOUNCED, correction.id)
            if found is None:
                self._stored.discard(correction.id)
            else:
                self._stored.publish(correction.id, found[0])

    def _open(self, attempt: Attempt, member: Member, envelope: dsse.Envelope) -> Opened[Correction]:
        opened = open_correction(envelope, self._log.directory.signing_keys(member.id))
        attempt.key_id = opened.key_id
        verify_made_now(opened.statement, self._log.origin, self._log.clock())
        return opened

    def _resolve(self, attempt: Attempt, member: Member, statement: Correction) -> Dataset:
        dataset = self._catalogue.dataset(statement.dataset)
        attempt.dataset = dataset.name
        if dataset.provider != member.id:
            raise GatewayError(
                "Only the member that provides a dataset announces corrections of its records.",
                reason=Reason.ROLE_MISSING,
            )
        if not dataset.corrections:
            raise GatewayError(
                "Of this dataset it is not remembered who received which record. Its description must name "
                "the fields that name a record (`corrections`).",
                reason=Reason.CORRECTIONS_NOT_KEPT,
            )
        named = {*dataset.corrections}
        if any(record.keys() != named for record in statement.records):
            raise GatewayError(
                "Each record is named by the values of all the dataset's key fields, and of no others.",
                reason=Reason.STATEMENT_MALFORMED,
                fields=",".join(dataset.corrections),
            )
        return dataset

    def _prepare(
        self, statement: Correction, member: Member, dataset: Dataset
    ) -> tuple[Announced, list[Notice]]:
        """Look up who received the records and keep what each is told. Blocks."""
        now = self._log.clock()
        namer = self._keys.namer(dataset.name)
        keys = {namer.token(key): key for key in record_keys(dataset, statement.records)}
        pages = self._departures.departed(self._register.holding(dataset.name, keys.keys()), now)
        correction = Announced(
            id=new_exchange_id(now),
            announcer=member.id,
            dataset=dataset.name,
            kind=statement.kind.value,
            reason=statement.reason.value,
            effective=statement.effective,
            announced=rfc3339(now),
            records=len(keys),
        )
        identity = self._log.origin, correction.id, correction.announced
        told = notices(identity, statement, dataset, keys, pages, self._pseudonymiser)
        self._stored.prepare(correction, [self._sealed(notice) for notice in told])
        return correction, told

    def _sealed(self, notice: Notice) -> SealedNotice:
        payload = encode_canonical(notice)
        content = self._keys.seal(payload, notice.correction, notice.recipient)
        return SealedNotice(notice.recipient, payload_digest(payload), content)

    async def _record(self, correction: Announced, opened: Opened[Correction], told: list[Notice]) -> int:
        exchanges = sum(
            len(group.exchanges) + group.more_exchanges for notice in told for group in notice.releases
        )
        digest = payload_digest(opened.envelope.payload)
        entry = self._log.entry(
            EntryKind.CORRECTION_ANNOUNCED,
            correction.id,
            provider=correction.announcer,
            dataset=correction.dataset,
            records=correction.records,
            envelope_key=opened.key_id,
            commitments={"correction": digest},
            detail={
                "kind": correction.kind,
                "reason": correction.reason,
                "effective": correction.effective,
                "recipients": str(len(told)),
                "exchanges": str(exchanges),
            },
        )
        until = parse_rfc3339(opened.statement.time) + 2 * MAX_CLOCK_SKEW
        key = hashlib.sha256(f"correction/{self._log.origin}/{digest}".encode()).digest()
        try:
            committed = await self._log.log.append(entry, Once(key, until))
        except OnceTakenError as error:
            await asyncio.to_thread(self._stored.discard, correction.id)
            raise GatewayError(
                "This announcement was made before; its state is in the list of corrections.",
                reason=Reason.REPLAYED,
            ) from error
        return committed.index
