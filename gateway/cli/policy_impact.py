"""`gateway policy matrix | diff | replay`: all that is allowed, and what another policy would change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.audit import filter as filters
from gateway.audit.filter import both
from gateway.audit.store import AuditReader
from gateway.audit.stores import open_reader
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.log_place import DatabaseOption, place_of
from gateway.cli.options import parse_duration, parse_time
from gateway.cli.output import counted, output_of
from gateway.cli.policy_place import (
    BundleArgument,
    CatalogueOption,
    HtmlOption,
    ProcessesOption,
    find_bundle,
    find_catalogue,
    past_bundles,
    write_new,
)
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption
from gateway.clock import rfc3339, system_clock
from gateway.model import Operation
from gateway.policy.bundle import Bundle
from gateway.policy.comparison import ChangeKind
from gateway.policy.policy_input import policy_minute
from gateway.policy_review.decided import DECIDED, read_decisions
from gateway.policy_review.differences import find_differences
from gateway.policy_review.html import KIND_WORDS, differences_page, matrix_page, replay_page
from gateway.policy_review.matrix import Cell
from gateway.policy_review.matrix import matrix as find_matrix
from gateway.policy_review.questions import World
from gateway.policy_review.replay import ReplayGroup, ReplayReport
from gateway.policy_review.replay import replay as replay_log
from gateway.recorded.descriptions import recorded_descriptions

_CELL_COLUMNS: Final = ("member", "dataset", "purpose", "operation", "tier", "way", "treatments", "duties")
_GROUP_COLUMNS: Final = ("kind", "member", "dataset", "purpose", "rules", "details", "count")

OperationOption = Annotated[
    list[Operation] | None,
    typer.Option(
        "--operation", help="Only this operation; may be repeated.  [default: query]", show_default=False
    ),
]
AnyOperationOption = Annotated[
    list[Operation] | None,
    typer.Option(
        "--operation", help="Only this operation; may be repeated.  [default: all]", show_default=False
    ),
]
FailOnOption = Annotated[
    list[ChangeKind] | None,
    typer.Option(
        "--fail-on",
        show_default=False,
        help="Exit code 1 on this kind of change; may be repeated.  [default: newly_allowed, weakened]",
    ),
]
_FAIL_ON: Final = (ChangeKind.ALLOWED, ChangeKind.WEAKENED)


def matrix(
    context: typer.Context,
    policy: BundleArgument = None,
    catalogue: CatalogueOption = None,
    operation: OperationOption = None,
    denied: Annotated[
        bool, typer.Option("--denied", help="List what is denied too, with the reasons.")
    ] = False,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When it is asked.  [default: now]")] = None,
    html: HtmlOption = None,
    processes: ProcessesOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """List who gets what: every member, dataset and purpose, by the best legal basis and memorandum.

    Asked are signed queries for all fields of one subject that cite a document, by the policy's members.
    """
    bundle = find_bundle(policy, config)
    moment = parse_time("--at", at) or system_clock()
    datasets = find_catalogue(catalogue, [policy], config, bundle)
    world = World.of([bundle], datasets, policy_minute(moment), _names(operation or [Operation.QUERY]))
    output = output_of(context)
    with output.progress("questions") as advance:
        cells = find_matrix(bundle, world, processes=processes, advance=advance)
    allowed = sum(cell.allow for cell in cells)
    if html is not None:
        facts = {
            **_bundle_facts(bundle),
            "asked for": world.time,
            "allowed": f"{allowed} of {len(cells)}",
        }
        write_new(html, matrix_page(f"Who gets what: {bundle.title}", facts, cells))
    rows = [_cell_row(cell) for cell in cells if cell.allow or denied]
    columns = (*_CELL_COLUMNS, "reasons") if denied else _CELL_COLUMNS
    output.list(rows, columns, nothing="Nothing is allowed.", shorten=_short_cell)
    output.remark(f"{allowed} of {counted(len(cells), 'question')} allowed.")


def diff(
    context: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="A", help="The policy to start from.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The policy to compare with it.")],
    catalogue: CatalogueOption = None,
    operation: AnyOperationOption = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When it is asked.  [default: now]")] = None,
    fail_on: FailOnOption = None,
    html: HtmlOption = None,
    processes: ProcessesOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """List what policy B decides differently from policy A, over every question that they could be asked.

    Exit code 1 if B allows or gives something that A does not; `--fail-on` chooses other kinds.
    """
    places = [before, after]
    bundles = [find_bundle(place, config) for place in places]
    moment = parse_time("--at", at) or system_clock()
    datasets = find_catalogue(catalogue, places, config, bundles[-1])
    world = World.of(bundles, datasets, policy_minute(moment), _names(operation or list(Operation)))
    output = output_of(context)
    with output.progress("questions") as advance:
        found = find_differences(bundles[0], bundles[1], world, processes=processes, advance=advance)
    groups, counts = found.groups(), found.counts()
    if html is not None:
        facts = {
            "from": _named(bundles[0]),
            "to": _named(bundles[1]),
            "asked for": world.time,
            "questions": str(found.asked),
        }
        write_new(html, differences_page("What another policy would change", facts, groups))
    rows = [{**msgspec.to_builtins(group), "count": group.ways} for group in groups]
    output.list(rows, _GROUP_COLUMNS, nothing="Nothing is decided differently.", shorten=_short_group)
    output.remark(f"{counted(found.asked, 'question')}: {_told(counts)}.")
    _end(counts, fail_on)


def replay(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From when on: 30d, 12h, or a date or time.")
    ] = "30d",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this date or time.")] = None,
    candidate: Annotated[
        Path | None, typer.Option(metavar="POLICY", help="The policy to try.  [default: none]")
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            "--bundle",
            metavar="POLICY",
            show_default=False,
            help="A policy of then, directory or bundle file; may be repeated.  [default: those kept]",
        ),
    ] = None,
    fail_on: FailOnOption = None,
    html: HtmlOption = None,
    processes: ProcessesOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """Make the log's decisions again, to prove them, and see what a candidate would decide in their place.

    Exit code 3 if the policy of then does not give a decision that the log tells, 1 if the candidate would
    allow or give more; `--fail-on` chooses other kinds.
    """
    wanted = both(DECIDED, filters.since(_since(since)))
    end = parse_time("--until", until)
    if end is not None:
        wanted = both(wanted, filters.until(end))
    place = place_of(config, database)
    tried = None if candidate is None else find_bundle(candidate, config)
    if tried is None and not bundle and place.deployment is None:
        raise CommandError("Name a --candidate to try, or with --bundle the policy that decided then.")
    output = output_of(context)
    with place.reading() as reader, ExitStack() as opened, output.progress("entries") as advance:
        place.record(reader, "policy replay", wanted)
        log = read_decisions(reader, wanted, advance)
        previous = place.deployment.log.previous if place.deployment else ()
        older: list[AuditReader] = [opened.enter_context(open_reader(path)) for path in previous]
        descriptions = recorded_descriptions([reader, *older])
    bundles = past_bundles(bundle, place.deployment, (decision.bundle for decision in log.decisions.values()))
    with output.progress("decisions") as advance:
        report = replay_log(
            log, descriptions, list(bundles.values()), tried, processes=processes, advance=advance
        )
    groups, counts = report.groups(), report.counts()
    if html is not None:
        facts = {
            "candidate": "none" if tried is None else _named(tried),
            "since": since,
            "exchanges": str(report.exchanges),
            "decisions": str(report.decisions),
            "proven": str(report.proven),
            "written": rfc3339(system_clock())[:19] + "Z",
        }
        write_new(html, replay_page("The log's decisions made again", facts, report, groups))
    output.facts(_replay_facts(report, groups, counts), _replay_lines(report, groups, counts, tried))
    if report.faults:
        raise typer.Exit(Exit.UNVERIFIED)
    _end(counts, fail_on)


def _since(text: str) -> datetime:
    if text and text[-1] in "smhd" and text[:-1].isdecimal():
        return system_clock() - parse_duration("--since", text)
    moment = parse_time("--since", text)
    assert moment is not None, "a text is given"
    return moment


def _end(counts: Mapping[ChangeKind, int], fail_on: list[ChangeKind] | None) -> None:
    if any(counts[kind] for kind in fail_on or _FAIL_ON):
        raise typer.Exit(Exit.NO)


def _names(operations: Iterable[Operation]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(operation.value for operation in operations))


def _bundle_facts(bundle: Bundle) -> dict[str, str]:
    return {"revision": str(bundle.revision), "digest": bundle.digest}


def _named(bundle: Bundle) -> str:
    return f"{bundle.title}, revision {bundle.revision} ({bundle.digest[:19]})"


def _cell_row(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in cell.__struct_fields__}


def _short_cell(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "dataset": _short_dataset(row["dataset"]),
        "way": [name for name in (row["legal_basis"], row["memorandum"]) if name],
        "treatments": {name: len(fields) for name, fields in row["treatments"].items()},
        "duties": list(row["duties"]),
    }


def _short_group(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "kind": KIND_WORDS[ChangeKind(row["kind"])],
        "dataset": _short_dataset(row["dataset"]),
    }


def _short_dataset(name: str) -> str:
    provider, _, dataset = name.removeprefix("members/").partition("/datasets/")
    return f"{provider}/{dataset}"


def _told(counts: Mapping[ChangeKind, int]) -> str:
    return ", ".join(f"{number} {KIND_WORDS[kind]}" for kind, number in counts.items())


def _replay_facts(
    report: ReplayReport, groups: Iterable[ReplayGroup], counts: Mapping[ChangeKind, int]
) -> dict[str, Any]:
    return {
        "exchanges": report.exchanges,
        "undecided": report.undecided,
        "without_input": report.without_input,
        "decisions": report.decisions,
        "proven": report.proven,
        "missing_bundles": report.missing_bundles,
        "faults": [
            {"decision": fault.decision, "exchange": fault.exchange, "what": fault.what}
            for fault in report.faults
        ],
        "counts": {kind.value: number for kind, number in counts.items()},
        "changes": [msgspec.to_builtins(group) for group in groups],
    }


def _replay_lines(
    report: ReplayReport,
    groups: Iterable[ReplayGroup],
    counts: Mapping[ChangeKind, int],
    tried: Bundle | None,
) -> list[str]:
    read = f"{counted(report.exchanges, 'exchange')}, {counted(report.decisions, 'distinct decision')}"
    lines = [f"{read}; {report.proven} made again and borne out by the policy of then."]
    if report.undecided:
        lines.append(f"{report.undecided} were refused before policy was asked.")
    if report.without_input:
        lines.append(f"{report.without_input} cannot be replayed: their entries do not hold what was asked.")
    lines += [
        f"{counted(number, 'decision')} by a policy that is not at hand ({digest}); name it with --bundle."
        for digest, number in report.missing_bundles.items()
    ]
    lines += [
        f"INTEGRITY FAULT {fault.decision}, exchange {fault.exchange}: {fault.what}"
        for fault in report.faults
    ]
    if tried is None:
        return lines
    lines.append(f"Under {_named(tried)}: {_told(counts)} (exchanges).")
    for group in groups:
        lines.append(
            f"{KIND_WORDS[group.kind]}: {group.member}, {_short_dataset(group.dataset)}, {group.purpose}: "
            f"{counted(group.exchanges, 'exchange')}, {group.first[:19]}Z to {group.last[:19]}Z"
        )
        lines += [f"    {text}" for text in (*group.rules, *group.details)]
        lines.append(f"    such as {', '.join(group.samples)}")
    return lines


def register(app: typer.Typer) -> None:
    """Add the commands to `gateway policy`."""
    commands: dict[str, Callable[..., None]] = {"matrix": matrix, "diff": diff, "replay": replay}
    for name, command in commands.items():
        app.command(name)(command)
