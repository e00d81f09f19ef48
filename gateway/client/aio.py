"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import grpc

from gateway.api.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    contribution_service_pb2,
    contribution_service_pb2_grpc,
    evidence_pb2,
    exchange_service_pb2,
    exchange_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from gateway.audit.acknowledgement import AcknowledgedRelease, sign_acknowledgement, verify_acknowledged
from gateway.audit.contribution import (
    MAX_WITHDRAWN_KEYS,
    WithdrawnContribution,
    sign_withdrawal,
    verify_withdrawn,
)
from gateway.audit.receipt import Receipt, VerifiedReceipt, verify_receipt
from gateway.client.answers import Listed, Match, Page, StreamSummary
from gateway.client.calling import once, proven, repeatedly, watched
from gateway.client.contracts import AsyncContracts
from gateway.client.contributing import (
    CHOICES_ON_THE_WIRE,
    PATIENCE_S,
    Contributed,
    Contribution,
    OnProgress,
    Records,
)
from gateway.client.corrections import AsyncCorrections
from gateway.client.errors import ClientError, ReceiptInvalidError, from_rpc_error
from gateway.client.statement import build_query, new_nonce, seal_query
from gateway.client.wire import envelope_from_wire, envelope_to_wire
from gateway.clock import Clock, system_clock
from gateway.config import ClientConfig
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.evidence.list_answer import decode_list_answer
from gateway.evidence.quality import Choice
from gateway.evidence.records import page_digest, split_lines
from gateway.evidence.trust import Trust
from gateway.model import Actor, Operation, Query, Subject
from gateway.pki.reload import channel_credentials

DEFAULT_TIMEOUT_S: Final = 10.0
DEFAULT_STREAM_TIMEOUT_S: Final = 600.0
DEFAULT_COUNT_TIMEOUT_S: Final = 120.0
DEFAULT_WATCH_TIMEOUT_S: Final = 3600.0


class AsyncClient:
    """Calls one gateway as one member. Use it as an async context manager; share it between tasks.

    Every answer's receipt is verified against the trust file before it is returned, unless `verify`
    is False. Queries are not repeated on their own account: each is signed once, and stands in the log.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials,
        trust: Trust,
        signing_key: SigningKey | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        verify: bool = True,
        clock: Clock = system_clock,
    ) -> None:
        self.trust = trust
        self._key = signing_key
        self._timeout_s = timeout_s
        self._verify = verify
        self._clock = clock
        self._channel = grpc.aio.secure_channel(
            address,
            credentials,
            options=(
                ("grpc.max_receive_message_length", 16 * 1024 * 1024),
                ("grpc.enable_retries", 0),
                # A gateway that was restarted is found again in seconds, not minutes.
                ("grpc.max_reconnect_backoff_ms", 2000),
            ),
        )
        self._exchange: Any = exchange_service_pb2_grpc.ExchangeServiceStub(self._channel)
        self._audit: Any = audit_service_pb2_grpc.AuditServiceStub(self._channel)
        self.corrections: Final = AsyncCorrections(
            self._channel, trust, signing_key, timeout_s=timeout_s, clock=clock
        )
        """What concerns records that were corrected or withdrawn."""
        self.contracts = AsyncContracts(self._channel, trust, signing_key, timeout_s=timeout_s, verify=verify)
        """The contracts that this member is a party to."""
        self._contribution: Any = contribution_service_pb2_grpc.ContributionServiceStub(self._channel)
        self._catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(self._channel)
        self._usage: Any = usage_service_pb2_grpc.UsageServiceStub(self._channel)

    @classmethod
    def from_config(cls, path: str | Path, **options: Any) -> Self:
        """Return a client as the file at `path` describes it; must be called in a running event loop."""
        config = ClientConfig.load(Path(path))
        return cls(
            config.address,
            channel_credentials(config.tls.client_ca, config.tls.certificate, config.tls.key),
            Trust.load(config.trust),
            SigningKey.load(config.signing_key) if config.signing_key is not None else None,
            **options,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls still under way are cancelled."""
        await self._channel.close()

    # -- asking ----------------------------------------------------------------------------------

    def statement(
        self, operation: Operation, dataset: str, purpose: str, **parts: Any
    ) -> tuple[Query, dsse.Envelope]:
        """Return a query statement and its envelope, signed with this client's key if it has one."""
        query = build_query(self.trust.origin, operation, dataset, purpose, clock=self._clock, **parts)
        return query, seal_query(query, self._key)

    async def query(
        self,
        dataset: str,
        *,
        purpose: str,
        subjects: Sequence[Subject] = (),
        filters: Mapping[str, str] | None = None,
        fields: Sequence[str] = (),
        legal_basis: str = "",
        memorandum: str = "",
        contract: str = "",
        document: str = "",
        actor: Actor | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout_s: float | None = None,
        acknowledge: bool = False,
    ) -> Page:
        """Return one page of records; raise a `ClientError`.

        With `acknowledge`, its receipt is acknowledged before it is returned, as by `acknowledge`.
        """
        _, envelope = self.statement(
            Operation.QUERY,
            dataset,
            purpose,
            subjects=subjects,
            filters=filters,
            fields=fields,
            legal_basis=legal_basis,
            memorandum=memorandum,
            contract=contract,
            document=document,
            actor=actor,
        )
        return await self.send_query(
            envelope,
            page_size=page_size,
            page_token=page_token,
            timeout_s=timeout_s,
            acknowledge=acknowledge,
        )

    async def send_query(
        self,
        envelope: dsse.Envelope,
        *,
        page_size: int = 0,
        page_token: str = "",
        timeout_s: float | None = None,
        acknowledge: bool = False,
    ) -> Page:
        """Send a query statement that is already sealed."""
        request = exchange_service_pb2.QueryRequest(
            envelope=envelope_to_wire(envelope), page_size=page_size, page_token=page_token
        )
        response = await once(self._exchange.Query, request, timeout_s or self._timeout_s)
        text = response.page.records.encode()
        receipt = _receipt(response.receipt)
        verified = self._check(receipt, envelope.payload)
        page = Page(
            text=text,
            fields=tuple(response.page.fields),
            seed=response.page.salt_seed,
            next_page_token=response.next_page_token,
            receipt=receipt,
            verified=verified,
        )
        if verified is not None:
            proven(lambda: verified.verify_page(0, text, page.seed))
        return replace(page, acknowledged=await self._acknowledge(verified, receipt)) if acknowledge else page

    async def pages(self, dataset: str, **parts: Any) -> AsyncIterator[Page]:
        """Yield all pages of a query, each a signed exchange of its own (see `stream` for bulk)."""
        token = ""
        while True:
            page = await self.query(dataset, page_token=token, **parts)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def stream(
        self,
        dataset: str,
        *,
        purpose: str,
        page_size: int = 0,
        timeout_s: float | None = None,
        acknowledge: bool = False,
        **parts: Any,
    ) -> AsyncIterator[Page | StreamSummary]:
        """Yield the pages of a bulk query, and at the end a `StreamSummary` with the receipt.

        A stream without a summary was cut; it then raises. Pages are checked against the receipt as
        a whole: with verification on, nothing is proven before the summary is there.
        """
        _, envelope = self.statement(Operation.STREAM, dataset, purpose, **parts)
        request = exchange_service_pb2.StreamQueryRequest(
            envelope=envelope_to_wire(envelope), page_size=page_size
        )
        call = self._exchange.StreamQuery(request, timeout=timeout_s or DEFAULT_STREAM_TIMEOUT_S)
        digests: list[bytes] = []
        records = 0
        summary: StreamSummary | None = None
        try:
            async for response in call:
                if response.HasField("receipt"):
                    receipt = _receipt(response.receipt)
                    verified = self._check(receipt, envelope.payload)
                    if verified is not None and verified.page_digests != tuple(digests):
                        raise ReceiptInvalidError("The receipt is over other pages than those received.")
                    summary = StreamSummary(len(digests), records, receipt, verified)
                    continue
                text = response.page.records.encode()
                if self._verify:
                    digests.append(page_digest(split_lines(text), response.page.salt_seed))
                else:
                    digests.append(b"")
                records += response.page.record_count
                yield Page(text, tuple(response.page.fields), response.page.salt_seed, response.page_number)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()
        if summary is None:
            raise ReceiptInvalidError("The stream ended without a receipt: it was cut.")
        if acknowledge:
            acknowledged = await self._acknowledge(summary.verified, summary.receipt)
            summary = replace(summary, acknowledged=acknowledged)
        yield summary

    async def match(
        self,
        dataset: str,
        *,
        purpose: str,
        subject: Subject,
        match: Mapping[str, str],
        timeout_s: float | None = None,
        acknowledge: bool = False,
        **parts: Any,
    ) -> Match:
        """Return whether the subject's record has the values in `match`."""
        _, envelope = self.statement(
            Operation.MATCH, dataset, purpose, subjects=[subject], match=match, **parts
        )
        request = exchange_service_pb2.MatchAttributesRequest(envelope=envelope_to_wire(envelope))
        response = await once(self._exchange.MatchAttributes, request, timeout_s or self._timeout_s)
        matched = response.result == exchange_service_pb2.MATCH_RESULT_MATCHED
        receipt = _receipt(response.receipt)
        verified = self._check(receipt, envelope.payload)
        if verified is not None:
            line = b'{"match":true}\n' if matched else b'{"match":false}\n'
            proven(lambda: verified.verify_page(0, line, response.salt_seed))
        acknowledged = await self._acknowledge(verified, receipt) if acknowledge else None
        return Match(matched, receipt, verified, acknowledged)

    async def ask_lists(
        self,
        lists: str,
        *,
        purpose: str,
        subject: Subject,
        at_least: int | None = None,
        timeout_s: float | None = None,
        acknowledge: bool = False,
        **parts: Any,
    ) -> Listed:
        """Return whether the subject is on the list, or on `at_least` lists of the set.

        `lists` is a dataset of class list or `list-sets/{list_set}`; the subject's field is a kind of
        identifier, such as `uscc`.
        """
        _, envelope = self.statement(
            Operation.LIST, lists, purpose, subjects=[subject], at_least=at_least, **parts
        )
        request = exchange_service_pb2.AskListsRequest(envelope=envelope_to_wire(envelope))
        response = await once(self._exchange.AskLists, request, timeout_s or self._timeout_s)
        line = response.answer.encode()
        answer = proven(lambda: decode_list_answer(line))
        receipt = _receipt(response.receipt)
        verified = self._check(receipt, envelope.payload)
        if verified is not None:
            proven(lambda: verified.verify_page(0, line, response.salt_seed))
        acknowledged = await self._acknowledge(verified, receipt) if acknowledge else None
        return Listed(
            bool(answer.listed),
            answer.restrictions,
            line,
            response.salt_seed,
            receipt,
            verified,
            acknowledged,
        )

    async def acknowledge(self, receipt: Receipt) -> AcknowledgedRelease:
        """Tell the gateway, signed, that what `receipt` is for has arrived; return the log's proof of it.

        The receipt is verified first, in any case: what does not verify is not acknowledged. Raises a
        `ClientError`: `ReplayedError` if this was done before, and `ReceiptInvalidError` if the receipt does
        not verify or the gateway's answer does not prove that the acknowledgement stands in the log.
        """
        if self._key is None:
            raise ClientError("An acknowledgement is signed: give the client a signing key.")
        verified = proven(lambda: verify_receipt(receipt, self.trust))
        envelope = sign_acknowledgement(receipt, verified, self._key, self._clock())
        request = exchange_service_pb2.AcknowledgeExchangeRequest(envelope=envelope_to_wire(envelope))
        response = await once(self._exchange.AcknowledgeExchange, request, self._timeout_s)
        return proven(lambda: verify_acknowledged(envelope, response.entry, response.tlog_proof, self.trust))

    # -- contributing ----------------------------------------------------------------------------

    async def contribution_form(
        self, contract: str, dataset: str
    ) -> contribution_service_pb2.GetContributionFormResponse:
        """Return what is needed to prepare records: the contract in force, fields, key and bounds."""
        request = contribution_service_pb2.GetContributionFormRequest(contract=contract, dataset=dataset)
        form: contribution_service_pb2.GetContributionFormResponse = await self._read(
            self._contribution.GetContributionForm, request
        )
        return form

    async def contribute(
        self,
        records: Records,
        *,
        contract: str,
        dataset: str,
        batch: str,
        choice: Choice = Choice.ALL_OR_NOTHING,
        on_progress: OnProgress | None = None,
        patience_s: float = PATIENCE_S,
    ) -> Contributed:
        """Give records under a contract; return how the batch ended, with a receipt that was verified.

        `records` is called for each attempt and gives the records' lines (`record_line`), each time the
        same. After a break the upload goes on by itself where the gateway has got to, as long as no more
        than `patience_s` seconds pass without progress. Raises a `ClientError`.
        """
        if self._key is None:
            raise ClientError("A contribution is signed: give the client a signing key.")
        opening = contribution_service_pb2.ContributionOpening(
            contract=contract, dataset=dataset, batch=batch, choice=CHOICES_ON_THE_WIRE[choice]
        )
        upload = Contribution(
            self._contribution, opening, records, self._key, self.trust, self._clock, on_progress
        )
        return await upload.run(patience_s)

    async def withdraw(
        self, keys: Sequence[tuple[str | int | bool, ...]], *, contract: str, dataset: str
    ) -> tuple[int, list[WithdrawnContribution]]:
        """Take records back, by the values of their key fields.

        Return how many there were, and the proof of each entry that says so. Raises a `ClientError`.
        """
        if self._key is None:
            raise ClientError("A withdrawal is signed: give the client a signing key.")
        form = await self.contribution_form(contract, dataset)
        records, proven = 0, []
        for start in range(0, len(keys), MAX_WITHDRAWN_KEYS):
            envelope = sign_withdrawal(
                keys[start : start + MAX_WITHDRAWN_KEYS],
                gateway=self.trust.origin,
                contract=form.contract,
                dataset=form.dataset,
                nonce=new_nonce(),
                key=self._key,
                now=self._clock(),
            )
            request = contribution_service_pb2.WithdrawRecordsRequest(envelope=envelope_to_wire(envelope))
            answer = await once(self._contribution.WithdrawRecords, request, self._timeout_s)
            records += answer.records
            proven.append(_withdrawn(envelope, answer, self.trust))
        return records, proven

    # -- reading ---------------------------------------------------------------------------------

    async def datasets(self) -> list[catalog_service_pb2.Dataset]:
        """Return every dataset, with what this member would receive of it."""
        found: list[catalog_service_pb2.Dataset] = []
        token = ""
        while True:
            request = catalog_service_pb2.ListDatasetsRequest(page_size=100, page_token=token)
            response = await self._read(self._catalog.ListDatasets, request)
            found.extend(response.datasets)
            token = response.next_page_token
            if not token:
                return found

    async def dataset(self, name: str) -> catalog_service_pb2.Dataset:
        """Return one dataset, with what this member would receive of it."""
        request = catalog_service_pb2.GetDatasetRequest(name=name)
        found: catalog_service_pb2.Dataset = await self._read(self._catalog.GetDataset, request)
        return found

    async def entry(self, index: int) -> bytes:
        """Return an entry of the audit log to which this member is a party: canonical JSON."""
        request = audit_service_pb2.GetEntryRequest(name=f"entries/{index}")
        return bytes((await self._read(self._audit.GetEntry, request)).data)

    async def entries(self, wanted: str = "", *, page_size: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (index, canonical JSON) of the entries that this member may read, newest first.

        `wanted` is a filter such as `kind = exchange.denied AND time >= 2026-11-01`; empty for all.
        """
        token = ""
        while True:
            request = audit_service_pb2.ListEntriesRequest(
                filter=wanted, page_size=page_size, page_token=token
            )
            response = await self._read(self._audit.ListEntries, request)
            for entry in response.entries:
                yield int(entry.name.removeprefix("entries/")), bytes(entry.data)
            token = response.next_page_token
            if not token:
                return

    async def checkpoint(self, tree_size: int = 0) -> str:
        """Return the log's checkpoint (latest for 0) as a signed note."""
        request = audit_service_pb2.GetCheckpointRequest(tree_size=tree_size)
        return str((await self._read(self._audit.GetCheckpoint, request)).note)

    async def inclusion_proof(self, index: int, tree_size: int = 0) -> audit_service_pb2.InclusionProof:
        """Return the proof that entry `index` is in the tree of `tree_size` (latest for 0)."""
        request = audit_service_pb2.GetInclusionProofRequest(name=f"entries/{index}", tree_size=tree_size)
        proof: audit_service_pb2.InclusionProof = await self._read(self._audit.GetInclusionProof, request)
        return proof

    async def consistency_proof(self, old: int, new: int = 0) -> audit_service_pb2.ConsistencyProof:
        """Return the proof that the tree of size `old` is a prefix of that of `new` (latest for 0)."""
        request = audit_service_pb2.GetConsistencyProofRequest(old_tree_size=old, new_tree_size=new)
        proof: audit_service_pb2.ConsistencyProof = await self._read(self._audit.GetConsistencyProof, request)
        return proof

    # -- the use of one's own records -------------------------------------------------------------

    async def usage(
        self, first_day: str, last_day: str, *, by: Sequence[str] = ()
    ) -> usage_service_pb2.GetUsageResponse:
        """Return the use of this member's records in a period, summed up by `day` or `consumer`, say."""
        request = usage_service_pb2.GetUsageRequest(
            first_day=first_day, last_day=last_day, group_by=[_dimension(name) for name in by]
        )
        found: usage_service_pb2.GetUsageResponse = await self._slowly(self._usage.GetUsage, request)
        return found

    async def watch_usage(
        self, from_index: int = 0, *, timeout_s: float = DEFAULT_WATCH_TIMEOUT_S
    ) -> AsyncIterator[usage_service_pb2.UsageEvent]:
        """Yield what happens to this member's records, as it happens, for `timeout_s` at most."""
        request = usage_service_pb2.WatchUsageRequest(from_index=from_index)
        async for event in watched(self._usage.WatchUsage, request, timeout_s):
            yield event

    async def statement_of_use(self, month: str, *, so_far: bool = False) -> dsse.Envelope:
        """Return the signed statement of a month, such as `2026-10`; nothing of it has been verified.

        With `so_far` also of the month that runs: what has been counted up to now.
        """
        response = await self._slowly(
            self._usage.GetStatement, usage_service_pb2.GetStatementRequest(month=month, so_far=so_far)
        )
        return proven(lambda: dsse.envelope_from_json(response.envelope))

    async def notices(self, after: int = 0) -> AsyncIterator[usage_service_pb2.Notice]:
        """Yield the notices given to this member with a number above `after`, oldest first."""
        while True:
            request = usage_service_pb2.ListNoticesRequest(page_size=1000, after=after)
            response = await self._read(self._usage.ListNotices, request)
            for notice in response.notices:
                after = notice.id
                yield notice
            if not response.more:
                return

    async def watch_notices(
        self, after: int = 0, *, timeout_s: float = DEFAULT_WATCH_TIMEOUT_S
    ) -> AsyncIterator[usage_service_pb2.Notice]:
        """Yield the notices with a number above `after`, and new ones, for `timeout_s` at most."""
        request = usage_service_pb2.WatchNoticesRequest(after=after)
        async for notice in watched(self._usage.WatchNotices, request, timeout_s):
            yield notice

    async def set_webhook(self, envelope: dsse.Envelope) -> str:
        """Say where notices are sent, in an envelope that this member has signed; return the address."""
        request = usage_service_pb2.SetWebhookRequest(envelope=envelope_to_wire(envelope))
        return str((await once(self._usage.SetWebhook, request, self._timeout_s)).url)

    # -- inside ----------------------------------------------------------------------------------

    def _check(self, receipt: Receipt, payload: bytes) -> VerifiedReceipt | None:
        if not self._verify:
            return None
        verified = proven(lambda: verify_receipt(receipt, self.trust))
        proven(lambda: verified.verify_query(payload))
        return verified

    async def _acknowledge(self, verified: VerifiedReceipt | None, receipt: Receipt) -> AcknowledgedRelease:
        if verified is None:
            raise ClientError("What was not verified is not acknowledged: let the client verify answers.")
        return await self.acknowledge(receipt)

    async def _read(self, method: Any, request: Any) -> Any:
        return await repeatedly(method, request, self._timeout_s)

    async def _slowly(self, method: Any, request: Any) -> Any:
        """Call what may count a long log first."""
        return await once(method, request, max(self._timeout_s, DEFAULT_COUNT_TIMEOUT_S))


def _dimension(name: str) -> usage_service_pb2.UsageDimension.ValueType:
    number = usage_service_pb2.UsageDimension.DESCRIPTOR.values_by_name.get(f"USAGE_DIMENSION_{name.upper()}")
    if number is None:
        raise ClientError(f"Usage is not summed up by {name!r}.")
    return usage_service_pb2.UsageDimension.ValueType(number.number)


def _withdrawn(envelope: dsse.Envelope, answer: Any, trust: Trust) -> WithdrawnContribution:
    return proven(lambda: verify_withdrawn(envelope, answer.entry, answer.tlog_proof, answer.salt, trust))


def _receipt(message: evidence_pb2.Receipt) -> Receipt:
    return Receipt(
        statement=envelope_from_wire(message.statement),
        tlog_proof=message.tlog_proof,
        deliveries=tuple(envelope_from_wire(item) for item in message.deliveries),
    )
