"""`gateway corrections`: announce that records were wrong, hear of such records, answer, see what is open."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.cli.calls import calling
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError, CommandFailed, Failure
from gateway.cli.options import parse_dataset, parse_time, require_file
from gateway.cli.output import counted, output_of
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption, load_gateway_config
from gateway.client.corrections import ReceivedNotice
from gateway.clock import parse_rfc3339, system_clock
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.correction import AnswerOutcome, CorrectionKind, CorrectionReason
from gateway.model import member_name

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Announce corrected or withdrawn records, hear of them, answer, and see what is open.",
)

COLUMNS: Final = ("correction", "dataset", "kind", "recipient", "state", "days", "outcome")
_NOTICE_COLUMNS: Final = (
    "correction",
    "dataset",
    "kind",
    "reason",
    "effective",
    "keys",
    "exchanges",
    "position",
)


@app.command("announce")
def announce(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Your dataset, as MEMBER/DATASET.")],
    records: Annotated[
        str,
        typer.Argument(
            metavar="RECORDS",
            help="File that names the records, or - for standard input: JSON Lines, each an object of the "
            "dataset's key fields; with --field, one value a line.",
        ),
    ],
    kind: Annotated[
        CorrectionKind,
        typer.Option(help="corrected: ask for them again. withdrawn: they must no longer be used."),
    ],
    reason: Annotated[CorrectionReason, typer.Option(help="Why; recipients are told.")],
    field: Annotated[
        str, typer.Option(metavar="NAME", help="The key field, where the file has its values only.")
    ] = "",
    effective: Annotated[
        str | None, typer.Option(metavar="TIME", help="Since when it holds.  [default: now]")
    ] = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Announce, signed, that records of your dataset were corrected or withdrawn.

    Correct your own data first: whoever asks meanwhile must get the new state. Everybody who received one
    of the records finds a notice on its stream.
    """
    name = parse_dataset(dataset)
    since = parse_time("--effective", effective)
    named = _read_records(records, field)
    with calling(config, name) as client:
        found = client.corrections.announce(name, kind, reason, named, effective=since)
    recipients = [item.member.removeprefix("members/") for item in found.recipients]
    facts = {
        "correction": found.name.removeprefix("corrections/"),
        "dataset": found.dataset,
        "records": found.record_count,
        "recipients": recipients,
        "entry": found.entry_index,
    }
    told = (
        f"{counted(len(recipients), 'recipient')} told: {', '.join(recipients)}."
        if recipients
        else ("Nobody received one of them.")
    )
    output_of(context).facts(facts, [f"Correction {facts['correction']}, entry {found.entry_index}. {told}"])


@app.command("watch")
def watch(
    context: typer.Context,
    after: Annotated[
        int, typer.Option(min=0, metavar="POSITION", help="Go on behind this position; 0: all not answered.")
    ] = 0,
    once: Annotated[bool, typer.Option("--once", help="Show what waits, and end.")] = False,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Show the corrections of records that you received, as they come, until interrupted.

    Each must be answered with `gateway corrections acknowledge`. JSON Lines show all keys and exchanges.
    """
    output = output_of(context)
    with calling(config) as client:
        if once:
            rows = [_notice_row(item) for item in client.corrections.waiting(after)]
            output.list(rows, _NOTICE_COLUMNS, nothing="No correction waits for your answer.", shorten=_short)
            return
        for item in client.corrections.watch(after):
            output.jsonl(_notice_row(item))
            sys.stdout.flush()


@app.command("acknowledge")
def acknowledge(
    context: typer.Context,
    correction: Annotated[
        str, typer.Argument(metavar="CORRECTION", help="Its id, as `gateway corrections watch` shows it.")
    ],
    outcome: Annotated[
        AnswerOutcome,
        typer.Option(help="done: your copy is corrected. deleted: it is gone. not-held: you have none."),
    ],
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Answer a correction, signed, once you have acted on it. The gateway then erases what it told you."""
    wanted = correction.removeprefix("corrections/")
    with calling(config) as client:
        waiting = client.corrections.waiting()
        received = next((item for item in waiting if item.notice.correction == wanted), None)
        if received is None:
            raise CommandFailed(
                Failure(
                    "No correction of this id waits for your answer.",
                    Exit.NO,
                    advice="See what waits: gateway corrections watch --once",
                )
            )
        answered = client.corrections.answer(received, outcome)
    output_of(context).facts(
        {"correction": wanted, "outcome": outcome.value, "entry": answered.index},
        [f"Entry {answered.index} of the log holds your answer: {outcome.value}."],
    )


@app.command("status")
def status(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Answered ones too.")] = False,
    gateway: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The gateway's own configuration: lists the corrections of all members, for officers there.",
        ),
    ] = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """List which recipients have not answered your corrections, and for how many days.

    Members with the role auditor see the corrections of all.
    """
    rows = [*(_of_member(config) if gateway is None else _of_gateway(gateway))]
    shown = [row for row in rows if everything or row["state"] != "answered"]
    output_of(context).list(shown, COLUMNS, nothing="Every correction is answered.")


def _of_member(config: Path) -> Iterator[dict[str, Any]]:
    with calling(config) as client:
        for item in client.corrections.list():
            for recipient in item.recipients:
                yield _status_row(item, recipient.member, recipient)


def _of_gateway(path: Path) -> Iterator[dict[str, Any]]:
    # Only here: members need nothing of the gateway's own parts.
    from gateway.corrections.database import open_tables  # noqa: PLC0415
    from gateway.corrections.notices import Notices  # noqa: PLC0415

    settings = load_gateway_config(path)
    with closing(open_tables(settings.log.database)) as tables:
        stored, before = Notices(tables), None
        while found := stored.statuses(None, before, 200):
            for each in found:
                for state in each.recipients:
                    yield _status_row(each.correction, member_name(state.recipient), state)
            before = found[-1].correction.announced, found[-1].correction.id


def _status_row(correction: Any, member: str, recipient: Any) -> dict[str, Any]:
    state = "answered" if recipient.outcome else "told" if recipient.delivered else "not told"
    age = system_clock() - parse_rfc3339(correction.announced)
    return {
        "correction": getattr(correction, "id", "") or correction.name.removeprefix("corrections/"),
        "dataset": correction.dataset,
        "kind": correction.kind,
        "reason": correction.reason,
        "announced": correction.announced,
        "recipient": member.removeprefix("members/"),
        "state": state,
        "days": age.days,
        "delivered": recipient.delivered,
        "answered": recipient.answered,
        "outcome": recipient.outcome,
    }


def _notice_row(item: ReceivedNotice) -> dict[str, Any]:
    notice = item.notice
    return {
        "correction": notice.correction,
        "dataset": notice.dataset,
        "kind": notice.kind.value,
        "reason": notice.reason.value,
        "effective": notice.effective,
        "announced": notice.announced,
        "releases": msgspec.to_builtins(notice.releases),
        "position": item.position,
        "entry": item.entry,
    }


def _short(row: Any) -> dict[str, Any]:
    """Return a row for the table, which has no room for every key."""
    releases = row["releases"]
    keys = [" ".join(key.values()) for group in releases for key in group.get("keys", ())]
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    exchanges = sum(len(group["exchanges"]) + group.get("more_exchanges", 0) for group in releases)
    return {**row, "keys": f"{keys[0]}{more}" if keys else "(not named)", "exchanges": exchanges}


def _read_records(source: str, field: str) -> list[dict[str, str]]:
    if source == "-":
        text = sys.stdin.read()
    else:
        path = require_file(Path(source), "The file of records", "it names one on each line")
        text = path.read_text("utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise CommandError("The file of records names none.")
    if field:
        return [{field: line} for line in lines]
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(msgspec.json.decode(line, type=dict[str, str]))
        except DECODE_ERRORS as error:
            raise CommandError(
                f'Line {number} of the records is no JSON object of texts, such as {{"uscc": "..."}}; with '
                "--field NAME each line is a value."
            ) from error
    return found
