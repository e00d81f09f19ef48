"""List questions: is the subject on the list, or on enough of several. One bit leaves, and no record.

    1 admit      who calls                         5 record     that it was asked; count it
    2 open       the signed statement              6 ask        all lists at once, on signed orders
    3 resolve    the lists, the subject            7 wait       until answers leave, whatever was found
    4 decide     what policy says of each list     8 record     that it was answered; receipt

What the lists said is known to steps 6 and 7 only. Before them nothing depends on it, and after them
nothing but one line, which has the same length whatever it says. Why: docs/adr/0038-list-questions.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from gateway.audit.errors import OnceTakenError
from gateway.audit.receipt import Receipt
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.list_answer import AnswerTooLongError, encode_list_answer
from gateway.evidence.records import SEED_BYTES
from gateway.exchange.call import Call
from gateway.exchange.list_limits import ListLimits, Schedule
from gateway.exchange.list_question import (
    ListQuestion,
    list_unavailable,
    resolve_list_question,
    restriction_field,
)
from gateway.exchange.resolution import Resolved, policy_input
from gateway.exchange.state import Exchange
from gateway.exchange.steps import POLICY_TIMEOUT_S, Collaborators, Steps, denial, present
from gateway.exchange.transform import AskedFor, ReleasedPage, TransformPlan, plan_transform
from gateway.model import Contract, Decision, Member, Operation, Treatment, strictest

MAX_ENTRIES: Final = 100
"""Entries of one subject on one list that are read for their classes of restriction."""

_TRANSPORT_REASONS: Final = frozenset(
    {Reason.PROVIDER_UNAVAILABLE, Reason.PROVIDER_TIMEOUT, Reason.PROVIDER_REFUSED}
)
"""Faults that tell nothing of what a list holds: operators may know whose they are."""

_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """What leaves."""

    line: bytes
    """See `gateway.evidence.list_answer`; with its line end."""
    seed: bytes
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class _AskedList:
    """One list, ready to be asked."""

    resolved: Resolved
    provider: Member
    contract: Contract | None
    decision: Decision
    plan: TransformPlan
    restriction: str
    """The field that tells the class of restriction, if it is to be told."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What one list said."""

    listed: bool
    restrictions: frozenset[str]
    tokens: bytes = b""
    """What finds the entries again that were found, if the list's corrections are passed on."""


class Listing:
    """Answers list questions."""

    def __init__(self, collaborators: Collaborators, steps: Steps) -> None:
        self._with = collaborators
        self._steps = steps

    async def ask(self, call: Call, envelope: dsse.Envelope) -> AnsweredQuestion:
        """Return the answer; raise `GatewayError`, as it is told to the caller."""
        async with self._steps.exchange(call, Operation.LIST) as exchange:
            self._steps.admit(exchange)
            self._steps.open(exchange, envelope)
            if not present(exchange.statement).key_id:
                raise GatewayError(
                    "Questions to lists are signed, whatever the list's tier.",
                    reason=Reason.SIGNATURE_REQUIRED,
                )
            question, givers = self._resolve(exchange)
            asked = await self._decide(exchange, question, givers)
            limits = self._limits()
            schedule = Schedule(exchange, limits.rules.answer_after_s)
            await self._with.duties.accept(exchange, exchange.duties)
            await self._steps.record_request(exchange)
            held = self._with.duties.hold(exchange, exchange.duties)
            if await self._steps.while_in_force(exchange, held):
                self._steps.still_permitted(exchange)
            now = self._with.clock()
            name = question.asked.dataset.name
            await limits.spend(present(exchange.consumer).id, name, now)
            async with _until_due(exchange, schedule):
                found = await self._ask_all(exchange, asked, schedule)
                line = _answer(question, found)
            tokens = b"".join(one.tokens for one in found)
            answer = ReleasedPage.of_line(line, secrets.token_bytes(SEED_BYTES), tokens)
            if not question.joint:
                # Of a set nobody may learn which of its lists had the subject, a correction either.
                await self._steps.note_recipient(exchange, asked[0].plan, answer)
            exchange.count(answer)
            [subject] = question.asked.subjects
            once = limits.once(present(exchange.consumer).id, name, subject, now)
            try:
                receipt = await self._steps.release(exchange, once)
            except OnceTakenError as error:
                exchange.discount()
                raise GatewayError(
                    "The same was asked about the same subject a short while ago; that answer stands.",
                    reason=Reason.ASKED_RECENTLY,
                    again_after_s=round(limits.rules.again_after.total_seconds()),
                ) from error
            return AnsweredQuestion(answer.records, answer.seed, receipt)

    def _limits(self) -> ListLimits:
        if self._with.list_limits is None:
            raise GatewayError(
                "This gateway answers no list questions.", reason=Reason.OPERATION_NOT_PERMITTED
            )
        return self._with.list_limits

    def _resolve(self, exchange: Exchange) -> tuple[ListQuestion, list[tuple[Member, Contract | None]]]:
        """Step 3: turn names into lists, their providers with the contracts they give by, a valid subject."""
        question = resolve_list_question(
            present(exchange.statement).query,
            self._with.catalogue,
            self._with.policy.bundle.data,
            present(exchange.consumer).id,
        )
        exchange.resolved = question.asked
        try:
            providers = [self._with.providers.holder(one.dataset) for one in question.lists]
        except GatewayError as error:
            if error.reason is Reason.PROVIDER_UNAVAILABLE:
                raise list_unavailable() from error
            raise
        try:
            found = [self._steps.find_contracts(exchange, one) for one in question.lists]
        except GatewayError as error:
            if question.joint:
                raise list_unavailable() from error
            raise
        exchange.contracts = tuple(one for both in found for one in both if one is not None)
        contracts = [contract for contract, _ in found]
        if not question.joint:
            [exchange.provider], [(exchange.contract, exchange.reciprocity)] = providers, found
        exchange.stopwatch.mark("resolve")
        return question, [*zip(providers, contracts, strict=True)]

    async def _decide(
        self,
        exchange: Exchange,
        question: ListQuestion,
        givers: Sequence[tuple[Member, Contract | None]],
    ) -> list[_AskedList]:
        """Step 4: ask policy about every list, also after a denial: nobody sees which list it was."""
        facts = [
            policy_input(
                one,
                present(exchange.consumer),
                provider.member_class,
                signed=bool(present(exchange.statement).key_id),
                now=exchange.started,
                contract=contract,
            )
            for one, (provider, contract) in zip(question.lists, givers, strict=True)
        ]
        try:
            async with asyncio.timeout(min(exchange.remaining_s(), POLICY_TIMEOUT_S)):
                decisions = [await self._with.policy.decide(one) for one in facts]
        except TimeoutError as error:
            raise GatewayError(
                "The policy engine did not decide in time; try again later.", reason=Reason.POLICY_TIMEOUT
            ) from error
        decision = exchange.decision = self._join(decisions)
        exchange.stopwatch.mark("policy")
        if not decision.allow:
            raise denial(decision.reasons)
        asked = [
            _prepare(one, giver, verdict, joint=question.joint)
            for one, giver, verdict in zip(question.lists, givers, decisions, strict=True)
        ]
        exchange.duties = strictest([one.plan.duties for one in asked])
        exchange.told = ("listed", "restrictions") if any(one.restriction for one in asked) else ("listed",)
        return asked

    def _join(self, decisions: Sequence[Decision]) -> Decision:
        """Return what the decisions come to: allowed if all are, at the strictest tier, under one bundle."""
        [first, *others] = decisions
        if not others:
            return first
        bundle = self._with.policy.bundle
        if any(one.bundle_digest != bundle.digest for one in decisions):
            raise GatewayError(
                "The policy changed while it was asked; ask anew.", reason=Reason.POLICY_UNAVAILABLE
            )
        allow = all(one.allow for one in decisions)
        tiers = bundle.data["tiers"]
        ends = [one.valid_until for one in decisions if one.valid_until is not None]
        ids = "\n".join(one.id for one in decisions)
        return Decision(
            id=f"d-{hashlib.sha256(ids.encode()).hexdigest()[:32]}",
            allow=allow,
            reasons=tuple(sorted({reason for one in decisions for reason in one.reasons})),
            tier=max(decisions, key=lambda one: (self._with.is_witnessed(one), tiers[one.tier]["rank"])).tier
            if allow
            else "",
            obligations={},
            duties={name: {} for one in decisions for name in one.duties},
            rule_ids=tuple(sorted({rule for one in decisions for rule in one.rule_ids})),
            valid_until=min(ends, default=None),
            bundle_digest=first.bundle_digest,
            engine=first.engine,
        )

    async def _ask_all(
        self, exchange: Exchange, asked: Sequence[_AskedList], schedule: Schedule
    ) -> list[_Found]:
        """Step 6: ask every list at once, and wait for all; raise `LIST_UNAVAILABLE` if one fails."""
        found: list[_Found] = []
        faults: list[BaseException] = []
        for one in await asyncio.gather(
            *(self._ask_one(exchange, one, len(asked) > 1, schedule.provider_s()) for one in asked),
            return_exceptions=True,
        ):
            if isinstance(one, BaseException):
                faults.append(one)
            else:
                found.append(one)
        if not faults:
            return found
        for fault in faults:
            if not isinstance(fault, GatewayError):
                raise fault
        if all(
            isinstance(fault, GatewayError) and fault.reason is Reason.COHORT_TOO_SMALL for fault in faults
        ):
            raise faults[0]
        raise list_unavailable() from faults[0]

    async def _ask_one(self, exchange: Exchange, asked: _AskedList, joint: bool, timeout_s: float) -> _Found:
        """Ask one list; return whether the subject is on it, as its provider signed it."""
        plan = asked.plan
        # An entry that is too old to count may stand before one that is not.
        size = MAX_ENTRIES if asked.restriction or plan.duties.retention is not None else 1
        order = self._steps.order_of(
            exchange,
            asked.resolved,
            asked.decision,
            plan.fetched,
            "joint" if joint else "single",
            contract=asked.contract,
        )
        holder = self._with.providers.records(asked.resolved.dataset)
        try:
            delivered, more = await holder.fetch(asked.provider, order, size, b"", timeout_s)
        except GatewayError as error:
            if error.reason in _TRANSPORT_REASONS:
                _log.warning("list.unavailable", provider=asked.provider.id, reason=error.reason.value)
            raise
        statement, _ = self._steps.verified_delivery(
            exchange.id, asked.provider, asked.resolved.dataset, delivered, 0
        )
        if statement.total is msgspec.UNSET:
            raise GatewayError(
                "The provider does not say how long its list is; it must be brought up to date.",
                reason=Reason.PROVIDER_SCHEMA,
            )
        self._limits().verify_size(statement.total)
        wanted = AskedFor(asked.resolved.subject_field, asked.resolved.subjects)
        today = self._steps.today()
        records = plan.read(delivered.records, wanted, today)
        if len(records) > size or (more and size > 1):
            raise GatewayError(
                "The provider has more entries of the subject than can be read.",
                reason=Reason.PROVIDER_TOO_MANY_RECORDS,
                limit=size,
            )
        classes = (record[asked.restriction] for record in records) if asked.restriction else ()
        namer = self._steps.namer(asked.resolved.dataset)
        tokens = plan.tokens(delivered.records, namer, wanted, today) if namer is not None else b""
        return _Found(bool(records), frozenset(one for one in classes if one), tokens)


def _prepare(
    resolved: Resolved, giver: tuple[Member, Contract | None], decision: Decision, *, joint: bool
) -> _AskedList:
    """Return the list ready to be asked: by what fields, and whether for its class of restriction too."""
    restriction = "" if joint else restriction_field(resolved.dataset)
    obligation = decision.obligations.get(restriction)
    if obligation is None or obligation.treatment is not Treatment.RELEASE:
        restriction = ""
    wanted = (resolved.subject_field, restriction) if restriction else (resolved.subject_field,)
    plan = plan_transform(resolved.dataset, decision, wanted)
    if resolved.subject_field not in plan.fields:
        raise GatewayError(
            "Policy does not let a list be asked by this kind of identifier.", reason=Reason.NOTHING_PERMITTED
        )
    return _AskedList(resolved, *giver, decision, plan, restriction)


def _answer(question: ListQuestion, found: Sequence[_Found]) -> bytes:
    """Step 6: the line that says what was found, once for each list however often it has the subject."""
    hits = sum(one.listed for one in found)
    restrictions = frozenset[str]().union(*(one.restrictions for one in found))
    try:
        return encode_list_answer(listed=hits >= question.at_least, restrictions=restrictions)
    except AnswerTooLongError as error:
        raise list_unavailable() from error


@asynccontextmanager
async def _until_due(exchange: Exchange, schedule: Schedule) -> AsyncIterator[None]:
    """Step 7: leave this block when an answer is due, be it an answer or a fault."""
    try:
        yield
    except Exception:
        await schedule.wait()
        raise
    else:
        await schedule.wait()
    finally:
        exchange.stopwatch.mark("provider")
