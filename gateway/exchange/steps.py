"""The steps of an exchange, one function each, in their order. See `gateway.exchange.service`."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any, Final, Literal, TypeVar

import msgspec

from gateway.audit.committed import Committed
from gateway.audit.errors import LogUnavailableError, OnceTakenError
from gateway.audit.receipt import Receipt, issue_receipt
from gateway.audit.store import Once
from gateway.catalogue import Catalogue
from gateway.clock import Clock, parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.delivery import (
    DELIVERY_TYPE,
    DeliveryError,
    DeliveryStatement,
    parse_delivery,
    verify_delivery,
    verify_records,
)
from gateway.evidence.keys import SignatureError, SigningKey
from gateway.evidence.order import ORDER_TYPE, FetchOrder, encode_order
from gateway.evidence.records import SEED_BYTES
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.exchange.contracts import ContractsInForce, find_contract, verify_in_force
from gateway.exchange.duties.performing import DutyPerformer
from gateway.exchange.journal import Journal
from gateway.exchange.list_limits import ListLimits
from gateway.exchange.list_question import list_unavailable
from gateway.exchange.paging import PageTokens
from gateway.exchange.providers import DeliveredPage, Providers
from gateway.exchange.recipients import RecipientRegister
from gateway.exchange.reciprocity import find_reciprocity, is_named
from gateway.exchange.resolution import Resolved, policy_input, resolve
from gateway.exchange.state import Exchange, OpenExchanges, new_exchange_id
from gateway.exchange.statement import open_statement
from gateway.exchange.transform import (
    AskedFor,
    NameRecords,
    ReleasedPage,
    TransformPlan,
    plan_transform,
)
from gateway.exchange.witnessing import Witnessing
from gateway.members import Directory
from gateway.model import Contract, Dataset, Decision, Member, Operation
from gateway.model.duties import DELIVERIES_WITHHELD
from gateway.policy.engine import PolicyEngine
from gateway.policy.recorded_input import as_recordable
from gateway.pseudonym import DomainPseudonymiser, Pseudonymiser
from gateway.recent import Recent
from gateway.telemetry.faults import record_fault
from gateway.telemetry.metrics import Metrics

INLINE_RECORDS: Final = 20
"""Pages up to this size are transformed on the event loop: handing over costs more than doing it."""
ORDER_LIFETIME: Final = timedelta(minutes=5)

POLICY_TIMEOUT_S: Final = 1.0
"""The longest that policy may think about one exchange; the product's engines give up before."""

CONTRACT_INTERVAL_S: Final = 0.25
"""How often contracts are looked at while an exchange under them waits for something."""

SECOND_WAIT_S: Final = 0.25
"""How long a caller whom the log has already kept waiting in vain waits for the entry that says so."""

STALL_TIMEOUT_S: Final = 30.0
"""A reader that takes no page for so long loses its turn: the stream is cut."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Everything the use case works with."""

    origin: str
    clock: Clock
    directory: Directory
    catalogue: Catalogue
    policy: PolicyEngine
    journal: Journal
    providers: Providers
    pseudonymiser: Pseudonymiser
    signing_key: SigningKey
    page_tokens: PageTokens
    metrics: Metrics
    duties: DutyPerformer
    contracts: ContractsInForce
    """Under which records of contributors are given."""
    on_outcome: Callable[[Exchange, GatewayError | None, int], None]
    """Told of each ended exchange: its state, what refused it, the index of its closing entry."""
    is_witnessed: Callable[[Decision], bool] = lambda _: False
    """Whether nothing leaves on a decision before witnesses have cosigned the log with its entry."""
    witnessing: Witnessing | None = None
    """Who sees to that; there, if there are such decisions."""
    list_limits: ListLimits | None = None
    """What bounds questions to lists; without it none is answered."""
    recipients: RecipientRegister | None = None
    """Who remembers what reached whom; there, if a dataset asks for it."""


class Steps:
    """The steps. Each sets on the `Exchange` what it found out and raises `GatewayError` to end it."""

    def __init__(self, collaborators: Collaborators) -> None:
        self.under_way: Final = OpenExchanges()
        self._with = collaborators
        # A decision id covers the query's shape and the dataset's description: one id, one plan.
        self._plans: Recent[str, TransformPlan] = Recent(1024)
        self._transformer = ThreadPoolExecutor(1, thread_name_prefix="transform")

    def close(self) -> None:
        """End the thread that transforms pages."""
        self._transformer.shutdown(wait=True)

    @asynccontextmanager
    async def exchange(self, call: Call, operation: Operation) -> AsyncIterator[Exchange]:
        """Hold one exchange: whatever ends it, it leaves its entry and is counted."""
        now = self._with.clock()
        exchange = Exchange(new_exchange_id(now), operation, call, now, self._with.metrics.stopwatch())
        self.under_way.begin()
        try:
            yield exchange
        except (asyncio.CancelledError, GeneratorExit):
            # Shielded: a second cancellation must not keep the entry from being written.
            recording = asyncio.ensure_future(self.refuse(exchange, _interruption(exchange)))
            self.under_way.hold_until_done(recording)
            await asyncio.shield(recording)
            raise
        except Exception as error:
            refusal = _refusal(error, exchange)
            await self.refuse(exchange, refusal)
            if refusal is error:
                raise
            raise refusal from error
        else:
            settling = self._with.duties.settle(exchange)
            if settling is not None:
                self.under_way.hold_until_done(settling)
        finally:
            self.under_way.end()

    async def prepare(self, exchange: Exchange, envelope: dsse.Envelope) -> TransformPlan:
        """Take steps 1 to 5; return how the records of this exchange become releasable."""
        self.admit(exchange)
        self.open(exchange, envelope)
        self.resolve(exchange)
        await self.decide(exchange)
        plan = self.plan(exchange)
        await self._with.duties.accept(exchange, plan.duties)
        await self.record_request(exchange)
        if await self.while_in_force(exchange, self._with.duties.hold(exchange, plan.duties)):
            self.still_permitted(exchange)
        return plan

    def admit(self, exchange: Exchange) -> None:
        """Step 1: find out who calls; raise what the transport found wrong."""
        exchange.consumer = admit(exchange.call, self._with.directory, exchange.started)
        if exchange.call.fault is not None:
            raise exchange.call.fault
        exchange.stopwatch.mark("identity")

    def open(self, exchange: Exchange, envelope: dsse.Envelope) -> None:
        """Step 2: verify and parse the signed statement."""
        consumer = present(exchange.consumer)
        exchange.statement = open_statement(
            envelope,
            self._with.directory.signing_keys(consumer.id),
            self._with.origin,
            exchange.operation,
            exchange.started,
        )
        exchange.stopwatch.mark("envelope")

    def resolve(self, exchange: Exchange) -> None:
        """Step 3: turn names into a dataset, fields, valid identifiers, the contract, and the provider."""
        statement = present(exchange.statement)
        resolved = exchange.resolved = resolve(statement.query, self._with.catalogue)
        exchange.contract, exchange.reciprocity = found = self.find_contracts(exchange, resolved)
        exchange.contracts = tuple(contract for contract in found if contract is not None)
        exchange.provider = self._with.providers.holder(resolved.dataset)
        exchange.stopwatch.mark("resolve")

    def find_contracts(
        self, exchange: Exchange, resolved: Resolved
    ) -> tuple[Contract | None, Contract | None]:
        """Return the contract that `resolved` is asked under, and the one by which it is got in return.

        See `find_contract` and `find_reciprocity`. Is it one and the same, it is the first.
        """
        query, dataset, consumer = resolved.query, resolved.dataset, present(exchange.consumer)
        contracts, now = self._with.contracts, exchange.started
        reciprocity = find_reciprocity(query, dataset, consumer, contracts, now)
        if reciprocity is not None and is_named(reciprocity, query):
            query = msgspec.structs.replace(query, contract="")
        contract = find_contract(query, dataset, consumer, contracts, now)
        return contract, None if reciprocity == contract else reciprocity

    async def decide(self, exchange: Exchange) -> None:
        """Step 4: ask policy, for `POLICY_TIMEOUT_S` at most; raise its denial."""
        statement, resolved = present(exchange.statement), present(exchange.resolved)
        facts = policy_input(
            resolved,
            present(exchange.consumer),
            present(exchange.provider).member_class,
            signed=bool(statement.key_id),
            now=exchange.started,
            contract=exchange.contract,
        )
        facts = as_recordable(facts, self._with.policy.bundle.data)
        exchange.policy_input = facts
        try:
            async with asyncio.timeout(min(exchange.remaining_s(), POLICY_TIMEOUT_S)):
                decision = exchange.decision = await self._with.policy.decide(facts)
        except TimeoutError as error:
            raise GatewayError(
                "The policy engine did not decide in time; try again later.", reason=Reason.POLICY_TIMEOUT
            ) from error
        exchange.stopwatch.mark("policy")
        if not decision.allow:
            raise denial(decision.reasons)

    def plan(self, exchange: Exchange) -> TransformPlan:
        """Step 4: turn the decision into what is done to each page."""
        resolved, decision = present(exchange.resolved), present(exchange.decision)
        exchange.plan = self._plans.get(decision.id)
        if exchange.plan is None:
            is_match = exchange.operation is Operation.MATCH
            requested = tuple(resolved.match) if is_match else resolved.query.fields
            exchange.plan = plan_transform(resolved.dataset, decision, requested)
            self._plans.put(decision.id, exchange.plan)
        if not exchange.plan.fields:
            raise GatewayError(
                "Policy leaves nothing of this query to release.", reason=Reason.NOTHING_PERMITTED
            )
        exchange.duties = exchange.plan.duties
        return exchange.plan

    async def record_request(self, exchange: Exchange) -> None:
        """Step 5: record that the exchange begins, once for each signed statement."""
        try:
            recording = self._with.journal.requested(exchange)
            if exchange.plan is not None and exchange.operation is not Operation.STREAM:
                # Made and signed while the log writes; nobody sees it before that is done. Streams
                # may have to wait for their turn, thousands of them: each makes its own when it comes.
                exchange.order = self.order(exchange, exchange.plan)
            await recording
        except OnceTakenError as error:
            raise GatewayError(
                "This signed statement was used before; sign each query anew, with a fresh nonce.",
                reason=Reason.REPLAYED,
            ) from error
        exchange.requested = True
        exchange.stopwatch.mark("log_requested")

    def order(self, exchange: Exchange, plan: TransformPlan) -> dsse.Envelope:
        """Return the signed order by which the provider can check for itself what it is asked."""
        return self.order_of(
            exchange,
            present(exchange.resolved),
            present(exchange.decision),
            plan.fetched,
            contract=exchange.contract,
        )

    def order_of(
        self,
        exchange: Exchange,
        resolved: Resolved,
        decision: Decision,
        fields: tuple[str, ...],
        list_question: Literal["single", "joint"] | msgspec.UnsetType = msgspec.UNSET,
        *,
        contract: Contract | None,
    ) -> dsse.Envelope:
        """Return the signed order for `resolved`, which `decision` allows."""
        query = resolved.query
        # An answer that is held is asked for after that, and the order lives from then on.
        held_s = exchange.duties.delay.seconds if exchange.duties.delay is not None else 0
        moment = exchange.started + timedelta(seconds=held_s)
        order = FetchOrder(
            gateway=self._with.origin,
            exchange=exchange.id,
            consumer=present(exchange.consumer).id,
            dataset=resolved.dataset.name,
            subject_field=resolved.subject_field,
            subject_values=resolved.subjects,
            filters=resolved.filters,
            fields=fields,
            list_question=list_question,
            purpose=query.purpose,
            legal_basis=query.legal_basis,
            memorandum=query.memorandum,
            contract=msgspec.UNSET if contract is None else contract.id,
            tier=decision.tier,
            decision=decision.id,
            bundle=decision.bundle_digest,
            time=rfc3339(moment),
            expires=rfc3339(moment + ORDER_LIFETIME),
        )
        return dsse.sign(encode_order(order), ORDER_TYPE, [self._with.signing_key])

    async def fetch(self, exchange: Exchange, size: int, cursor: bytes) -> tuple[DeliveredPage, bytes]:
        """Step 6: ask the provider for one page; return it, verified, and where the next begins."""
        provider, resolved = present(exchange.provider), present(exchange.resolved)
        records = self._with.providers.records(resolved.dataset)
        asked_s = time.monotonic()
        try:
            delivered, next_cursor = await self.while_in_force(
                exchange,
                records.fetch(provider, present(exchange.order), size, cursor, exchange.remaining_s()),
            )
        finally:
            exchange.provider_seconds = time.monotonic() - asked_s
        self.verify_delivery(exchange, delivered, 0)
        exchange.stopwatch.mark("provider")
        return delivered, next_cursor

    def verify_delivery(self, exchange: Exchange, delivered: DeliveredPage, number: int) -> bool:
        """Check the provider's signature over the page; return whether it says this is the last."""
        provider, resolved = present(exchange.provider), present(exchange.resolved)
        statement, exchange.provider_key = self.verified_delivery(
            exchange.id, provider, resolved.dataset, delivered, number
        )
        exchange.deliveries.append(delivered.delivery)
        return statement.last

    def verified_delivery(
        self, exchange: str, provider: Member, dataset: Dataset, delivered: DeliveredPage, number: int
    ) -> tuple[DeliveryStatement, str]:
        """Return the provider's statement over the page, verified, and the id of the key that signed it."""
        try:
            payload, key_id = dsse.verify(
                delivered.delivery, DELIVERY_TYPE, self._with.providers.signing_keys(dataset)
            )
            statement = parse_delivery(payload)
            verify_delivery(
                statement,
                exchange=exchange,
                dataset=dataset.name,
                page=number,
                at=self._with.clock(),
            )
            verify_records(statement, delivered.salt, delivered.records)
        except (SignatureError, DeliveryError) as error:
            raise GatewayError(
                "The provider's answer does not carry its valid signature; nothing was released.",
                reason=Reason.PROVIDER_SIGNATURE,
                provider=provider.id,
            ) from error
        return statement, key_id

    async def transform(
        self,
        exchange: Exchange,
        plan: TransformPlan,
        delivered: DeliveredPage,
        size: int,
        released: int = 0,
    ) -> ReleasedPage:
        """Step 7: make of a page what may leave after `released` records; of large ones on a thread."""
        left = self._with.duties.left(plan.duties, released)
        pseudonymiser = self.pseudonymiser(exchange, plan)
        seed = secrets.token_bytes(SEED_BYTES)
        asked, today = self.asked_for(exchange), self.today()
        namer = self.namer(present(exchange.resolved).dataset)
        if delivered.count <= INLINE_RECORDS and len(delivered.records) <= INLINE_RECORDS * 1024:
            page = plan.apply(delivered.records, pseudonymiser, seed, size, asked, today, left, namer)
        else:
            page = await asyncio.get_running_loop().run_in_executor(
                self._transformer,
                plan.apply,
                delivered.records,
                pseudonymiser,
                seed,
                size,
                asked,
                today,
                left,
                namer,
            )
        if exchange.operation is not Operation.STREAM:
            exchange.stopwatch.mark("transform")
        return page

    def asked_for(self, exchange: Exchange) -> AskedFor:
        """Return whose records the provider was asked for."""
        resolved = present(exchange.resolved)
        return AskedFor(resolved.subject_field, resolved.subjects)

    def today(self) -> date:
        """Return the day (UTC) by which the age of records is told."""
        return self._with.clock().astimezone(UTC).date()

    def still_permitted(self, exchange: Exchange) -> None:
        """Ask again what may have changed since the exchange was decided; raise `GatewayError`."""
        now = self._with.clock()
        admit(exchange.call, self._with.directory, now)
        self.verify_contracts(exchange)
        valid_until = present(exchange.decision).valid_until
        if valid_until is not None and now > parse_rfc3339(valid_until):
            raise GatewayError(
                "What policy granted has ended while the answer was under way.",
                reason=Reason.MEMORANDUM_NOT_IN_FORCE,
            )

    def verify_contracts(self, exchange: Exchange) -> None:
        """Raise `GatewayError` unless the contracts of the exchange are in force still."""
        try:
            for contract in exchange.contracts:
                verify_in_force(contract, self._with.contracts, self._with.clock())
        except GatewayError as error:
            if exchange.contract is None and exchange.reciprocity is None:
                # Nobody is told which of the lists that are asked together is under a contract.
                raise list_unavailable() from error
            raise

    async def while_in_force(self, exchange: Exchange, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Return what `work` does; give it up when a contract of the exchange is no longer in force.

        Suspension bites within a second, also while a provider is silent or an answer is held. Raises
        `GatewayError` with `CONTRACT_NOT_IN_FORCE`.
        """
        if not exchange.contracts:
            return await work
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=CONTRACT_INTERVAL_S))[0]:
                self.verify_contracts(exchange)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def pseudonymiser(self, exchange: Exchange, plan: TransformPlan) -> DomainPseudonymiser | None:
        """Return what makes this exchange's pseudonyms, and note its key epoch; None if there are none."""
        if not plan.pseudonymises:
            return None
        domain = self._with.pseudonymiser.for_exchange(
            present(exchange.consumer).id,
            present(exchange.resolved).query.purpose,
            exchange.started,
            epoch=exchange.key_epoch or None,
        )
        exchange.key_epoch = domain.epoch
        return domain

    def namer(self, dataset: Dataset) -> NameRecords | None:
        """Return what makes tokens of the dataset's records; None if its corrections are not passed on."""
        return present(self._with.recipients).namer(dataset) if dataset.corrections else None

    async def note_recipient(
        self, exchange: Exchange, plan: TransformPlan, page: ReleasedPage, number: int = 0
    ) -> None:
        """Step 8: remember who is about to receive the records of `page`, if their dataset asks for it."""
        if plan.key_forms:
            await present(self._with.recipients).note(exchange, plan, page, number)
            if exchange.operation is not Operation.STREAM:
                exchange.stopwatch.mark("recipients")

    async def release(self, exchange: Exchange, once: Once | None = None) -> Receipt:
        """Step 8: the entry that says what is released; when this returns, records may leave.

        With `once`, a claim that must be free for it.
        """
        if exchange.operation is not Operation.STREAM:
            # Of a stream everything has left by now, and each page was asked about before it did.
            self.verify_contracts(exchange)
        async with self._with.duties.releasing(exchange):
            committed = await self._with.journal.released(exchange, once)
            exchange.stopwatch.mark("log_released")
            try:
                committed = await self.witness(exchange, committed)
            except BaseException:
                exchange.withdraw(committed.index)
                raise
        withholds = DELIVERIES_WITHHELD & present(exchange.decision).duties.keys()
        receipt = issue_receipt(
            committed,
            origin=self._with.origin,
            openings=exchange.openings,
            page_digests=exchange.page_digests,
            deliveries=() if withholds else exchange.deliveries,
            signer=self._with.signing_key,
        )
        exchange.stopwatch.mark("receipt")
        self._with.on_outcome(exchange, None, committed.index)
        return receipt

    async def witness(self, exchange: Exchange, committed: Committed) -> Committed:
        """Step 8, at tiers that ask for it: wait until witnesses have cosigned the log with this entry.

        Return its place under their checkpoint. Raises `GatewayError` with `WITNESS_UNAVAILABLE`.
        """
        if not self._with.is_witnessed(present(exchange.decision)):
            return committed
        witnessed = await present(self._with.witnessing).witnessed(committed, exchange.remaining_s())
        if exchange.operation is not Operation.STREAM:
            exchange.stopwatch.mark("witnesses")
        return witnessed

    async def refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Record the refusal; if even that fails, the caller is told so instead."""
        error.details["exchange"] = exchange.id
        if exchange.withdraws is not None:
            error.details["withdrawn"] = str(exchange.withdraws)
        try:
            committed = await self._record_refusal(exchange, error)
        except GatewayError as log_error:
            log_error.details["exchange"] = exchange.id
            self._with.on_outcome(exchange, log_error, -1)
            raise log_error from error
        finally:
            settling = self._with.duties.settle(exchange)
            if settling is not None:
                await settling
        error.details["entry"] = str(committed.index)
        self._with.on_outcome(exchange, error, committed.index)

    async def _record_refusal(self, exchange: Exchange, error: GatewayError) -> Committed:
        if error.reason is not Reason.LOG_UNAVAILABLE:
            return await self._with.journal.refused(exchange, error)
        # The caller has waited for the log once. The entry is still asked for, and stands in the log
        # if that comes back in time; the caller need not wait for it.
        recording = self._with.journal.refused(exchange, error)
        self.under_way.hold_until_done(recording)
        await asyncio.wait({recording}, timeout=SECOND_WAIT_S)
        if not recording.done():
            raise LogUnavailableError(error.message)
        return recording.result()


def _refusal(error: Exception, exchange: Exchange) -> GatewayError:
    """Return what the caller is told of `error`; of a fault of ours, nothing but a reference to it."""
    if isinstance(error, GatewayError) and error.reason is not Reason.INTERNAL:
        return error
    return GatewayError(
        "The gateway failed; give the exchange id to its operator.",
        reason=Reason.INTERNAL,
        reference=record_fault(error, method=exchange.operation.value),
    )


def _interruption(exchange: Exchange) -> GatewayError:
    if exchange.stalled:
        return GatewayError(
            f"The reader took no page for {STALL_TIMEOUT_S:.0f} seconds; the stream was cut.",
            reason=Reason.READER_STALLED,
        )
    return GatewayError("The caller cancelled the call.", reason=Reason.CANCELLED)


def denial(reasons: tuple[str, ...]) -> GatewayError:
    """Return the error for a denial; its reason is the first of the policy's in the order of `Reason`."""
    known = [reason for reason in Reason if reason.value in reasons]
    return GatewayError(
        "Policy denies this query; the reasons are in `reasons`. CatalogService.GetDataset says what "
        "this member may ask for.",
        reason=known[0] if known else Reason.POLICY_FAILED,
        reasons=",".join(reasons),
    )


def present(value: _Value | None) -> _Value:
    """Return what an earlier step has set."""
    if value is None:
        raise RuntimeError("a step ran before the one it builds on")
    return value
