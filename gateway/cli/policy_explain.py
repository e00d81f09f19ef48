"""`gateway policy explain`: why one exchange was decided as it was, and what would have been allowed."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from gateway.audit.errors import EntryNotFoundError
from gateway.audit.filter import Field, Has
from gateway.audit.store import AuditReader
from gateway.audit.stores import open_reader
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError, CommandFailed, Failure
from gateway.cli.log_place import DatabaseOption, LogPlace, place_of
from gateway.cli.options import require_file
from gateway.cli.output import output_of
from gateway.cli.policy_place import find_bundle, past_bundles
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption
from gateway.model import Entry
from gateway.policy.bundle import Bundle
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.policy_input import PolicyInput, encode_input
from gateway.policy_review.allowing import LeastChanges, least_changes
from gateway.policy_review.decided import LoggedOutcome, find_exchange, read_decision, rebuilt
from gateway.policy_review.explanation import CitedRule, Explainer, Explanation, known_bundle
from gateway.recorded.descriptions import recorded_descriptions

_EXCHANGE: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_MAX_INPUT_FILE_BYTES: Final = 1024 * 1024

BundleOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--bundle",
        metavar="POLICY",
        show_default=False,
        help="A policy of then, directory or bundle file; may be repeated.  [default: those kept]",
    ),
]


@dataclass(frozen=True, slots=True)
class _Question:
    """What is to be explained."""

    encoded: bytes
    bundle: Bundle
    entry: Entry | None = None
    """Where it is logged."""


def explain(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="EXCHANGE_OR_INPUT", help="The id of an exchange in the log, or a policy input as JSON."
        ),
    ],
    bundle: BundleOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """Explain a decision: its reasons and grounds with citations, what becomes of each field and why.

    Of a denial also the least change that policy would allow. The decision on an exchange is made again
    from the log; exit code 3 if it is not the one that the log tells.
    """
    if _EXCHANGE.fullmatch(what):
        question = _of_log(what, bundle, place_of(config, database))
    else:
        question = _of_file(Path(what), bundle, config)
    explanation, least = asyncio.run(_explain(question))
    entry = question.entry
    if entry is not None:
        _require_borne_out(explanation, entry)
    output_of(context).facts(
        {
            "exchange": entry.exchange if entry else None,
            **msgspec.to_builtins(explanation),
            "least_change": None
            if least is None
            else {"changes": least.changes, "asked": least.asked, "complete": least.complete},
        },
        [*_lines(explanation, entry), *_least_lines(least)],
    )


async def _explain(question: _Question) -> tuple[Explanation, LeastChanges | None]:
    engine = EmbeddedEngine(question.bundle)
    await engine.start()
    try:
        explanation = await Explainer(engine).explain(question.encoded)
        return explanation, None if explanation.allow else least_changes(engine, question.encoded)
    finally:
        await engine.close()


def _of_log(exchange: str, bundles: list[Path] | None, place: LogPlace) -> _Question:
    with place.reading() as reader, ExitStack() as opened:
        entries = list(find_exchange(reader, exchange))
        place.record(reader, "policy explain", Has(Field.EXCHANGE, exchange), len(entries))
        if not entries:
            raise EntryNotFoundError("The log holds no exchange with this id.")
        decided = next((entry for entry in entries if entry.policy_input), None)
        if decided is None:
            raise _undecided(entries[-1])
        previous = place.deployment.log.previous if place.deployment else ()
        older: list[AuditReader] = [opened.enter_context(open_reader(path)) for path in previous]
        descriptions = recorded_descriptions([reader, *older])
    found = read_decision(decided)
    if bundles is None and place.deployment is None:
        raise CommandError("Name the policy that decided then with --bundle.")
    at_hand = past_bundles(bundles, place.deployment, [found.bundle])
    return _Question(rebuilt(found, descriptions), known_bundle(at_hand, found.bundle), decided)


def _undecided(entry: Entry) -> CommandFailed:
    if entry.decision:
        message = "The log does not hold what policy was asked; a release before this one decided."
    else:
        message = "The gateway refused this exchange before policy was asked."
    return CommandFailed(Failure(message, Exit.NO, reasons=entry.reasons, exchange=entry.exchange))


def _of_file(path: Path, bundles: list[Path] | None, config: Path) -> _Question:
    require_file(path, "The policy input", "name a JSON file, or an exchange by its id")
    with path.open("rb") as source:
        content = source.read(_MAX_INPUT_FILE_BYTES + 1)
    if len(content) > _MAX_INPUT_FILE_BYTES:
        raise CommandError(f"{path} is too large to be a policy input.")
    try:
        asked = msgspec.json.decode(content, type=PolicyInput)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CommandError(
            f"{path} is no policy input as schemas/input.json describes it: {error}."
        ) from error
    if bundles is not None and len(bundles) > 1:
        raise CommandError("An input is explained by one policy; name --bundle once.")
    return _Question(encode_input(asked), find_bundle(bundles[0] if bundles else None, config))


def _require_borne_out(explanation: Explanation, entry: Entry) -> None:
    logged = LoggedOutcome.of(entry)
    reasons = tuple(sorted({each.reason for each in explanation.reasons}))
    if (explanation.decision, explanation.allow, explanation.tier, reasons) != (
        entry.decision,
        logged.allow,
        logged.tier,
        logged.reasons,
    ):
        raise CommandFailed(
            Failure(
                "The decision made again is not the one that the log tells; keep the log as it is, and run "
                "`gateway audit fsck`.",
                Exit.UNVERIFIED,
                exchange=entry.exchange,
            )
        )


def _lines(explanation: Explanation, entry: Entry | None) -> list[str]:
    answer = f"Allowed at the tier '{explanation.tier}'" if explanation.allow else "Denied"
    lines = [f"{answer}: decision {explanation.decision}, policy revision {explanation.revision}."]
    if entry is not None:
        asked = f"{entry.consumer} asked for {entry.dataset}, {entry.operation}, for {entry.purpose}."
        lines += [
            f"Exchange {entry.exchange} of {entry.time[:19]}Z: {asked}",
            "Made again from the log: it is the decision that the log tells.",
        ]
    if explanation.valid_until:
        lines.append(f"Valid until {explanation.valid_until}.")
    for reason in explanation.reasons:
        lines += ["", f"{reason.reason} ({reason.condition})"]
        for rule in reason.rules:
            lines += _rule_lines(rule, "  not shown: " if len(reason.rules) == 1 else "  neither shown: ")
    return [*lines, *_ground_lines(explanation), *_effect_lines(explanation)]


def _ground_lines(explanation: Explanation) -> list[str]:
    lines = ["", "On the ground of"] if explanation.grounds else []
    for ground in explanation.grounds:
        until = f", until {ground.valid_until}" if ground.valid_until else ""
        citation = f" ({ground.citation})" if ground.citation else ""
        lines.append(f"  {ground.rule}: {ground.title}{citation}{until}")
    return lines


def _effect_lines(explanation: Explanation) -> list[str]:
    lines = ["", "Fields"] if explanation.fields else []
    for field in explanation.fields:
        lines += [f"  {field.field}: {field.treatment}", *(f"      {_short(rule)}" for rule in field.rules)]
    lines += ["", "Duties"] if explanation.duties else []
    for duty in explanation.duties:
        lines += [f"  {duty.duty}: {duty.params}", *(f"      {_short(rule)}" for rule in duty.rules)]
    return lines


def _rule_lines(rule: CitedRule, lead: str) -> list[str]:
    lines = [f"{lead}{rule.title}"]
    lines.append(f"    {rule.citation}; owner: {rule.owner}; {rule.place}")
    if rule.remedy:
        lines.append(f"    What helps: {rule.remedy}")
    return lines


def _short(rule: CitedRule) -> str:
    return f"{rule.title} ({rule.citation}; {rule.place})" if rule.citation else rule.title


def _least_lines(least: LeastChanges | None) -> list[str]:
    if least is None:
        return []
    if not least.changes:
        scope = "No single change and no pair of changes" if least.complete else "No change that was tried"
        return ["", f"{scope} of the question would be allowed ({least.asked} tried)."]
    lead = "This would be allowed" if len(least.changes) == 1 else "Each of these would be allowed"
    return ["", f"{lead}:", *(f"  {', and '.join(texts)}" for texts in least.changes)]


def register(app: typer.Typer) -> None:
    """Add the command to `gateway policy`."""
    app.command("explain")(explain)
