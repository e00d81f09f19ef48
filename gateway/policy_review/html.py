"""Reports as one HTML file each: nothing is loaded from elsewhere, no script runs, it prints well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Final

from gateway.policy.comparison import ChangeKind, show_parameters
from gateway.policy_review.differences import ChangeGroup
from gateway.policy_review.matrix import Cell
from gateway.policy_review.replay import ReplayGroup, ReplayReport

_CONTENT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --yes: #1a7f37; --no: #d1242f; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.facts { color: GrayText; } .facts b { color: CanvasText; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
thead th { border-bottom-width: 2px; } tbody tr:hover { background: var(--soft); }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: .4rem; padding: .4rem .8rem; }
summary { cursor: pointer; font-weight: 600; }
ul { margin: 0; padding-left: 1.1rem; }
.tier { font-weight: 600; } .way { color: GrayText; font-size: 13px; }
.newly_allowed, .weakened { color: var(--no); font-weight: 600; }
.newly_denied, .strengthened { color: var(--yes); font-weight: 600; }
.fault { color: var(--no); }
@media print { details { break-inside: avoid; } body { margin: 0; } }
"""

KIND_WORDS: Final[Mapping[ChangeKind, str]] = {
    ChangeKind.ALLOWED: "newly allowed",
    ChangeKind.DENIED: "newly denied",
    ChangeKind.WEAKENED: "weakened",
    ChangeKind.STRENGTHENED: "strengthened",
}


def matrix_page(title: str, facts: Mapping[str, str], cells: Sequence[Cell]) -> str:
    """Return the page of a matrix: a table for each dataset, who gets what for which purpose."""
    parts = []
    for dataset in sorted({cell.dataset for cell in cells}):
        own = [cell for cell in cells if cell.dataset == dataset]
        allowed = [cell for cell in own if cell.allow]
        members = {cell.member for cell in allowed}
        others = sorted({cell.member for cell in own} - members)
        parts.append(
            f"<details open><summary>{escape(dataset)}: {_counted(len(members), 'member')}</summary>"
        )
        if allowed:
            rows = (
                [_code(cell.member), _code(cell.purpose), _answer(cell), _fields(cell)] for cell in allowed
            )
            parts.append(_table(("Member", "Purpose", "Tier and way of asking", "Fields and duties"), rows))
        if others:
            parts.append(f'<p class="way">Nothing for: {", ".join(map(_code, others))}</p>')
        parts.append("</details>")
    return _page(title, facts, parts)


def differences_page(title: str, facts: Mapping[str, str], groups: Sequence[ChangeGroup]) -> str:
    """Return the page of a comparison of two bundles."""
    parts: list[str] = []
    for kind in ChangeKind:
        rows = [
            [
                _code(group.member),
                _code(group.dataset),
                _code(group.purpose),
                escape(", ".join(group.operations)),
                _list(group.rules),
                _list(group.details),
            ]
            for group in groups
            if group.kind is kind
        ]
        heading = ("Member", "Dataset", "Purpose", "Operations", "Rules", "Changes")
        parts += _section(kind, heading, rows)
    return _page(title, facts, parts or ["<p>Nothing is decided differently.</p>"])


def replay_page(
    title: str, facts: Mapping[str, str], report: ReplayReport, groups: Sequence[ReplayGroup]
) -> str:
    """Return the page of a replay: integrity faults first, then what the candidate changes."""
    parts: list[str] = []
    if report.faults:
        parts.append('<h2 class="fault">Integrity faults</h2>')
        rows = ([_code(fault.decision), _code(fault.exchange), escape(fault.what)] for fault in report.faults)
        parts.append(_table(("Decision", "Exchange", "What"), rows))
    for kind in ChangeKind:
        changed = [
            [
                _code(group.member),
                _code(group.dataset),
                _code(group.purpose),
                _list([*group.rules, *group.details]),
                str(group.exchanges),
                f"{escape(group.first[:19])}Z to {escape(group.last[:19])}Z",
                _list(group.samples),
            ]
            for group in groups
            if group.kind is kind
        ]
        heading = ("Member", "Dataset", "Purpose", "Rules and changes", "Exchanges", "When", "Such as")
        parts += _section(kind, heading, changed)
    return _page(title, facts, parts or ["<p>Every decision was borne out, and none would change.</p>"])


def _page(title: str, facts: Mapping[str, str], parts: Iterable[str]) -> str:
    told = " · ".join(f"{escape(name)} <b>{escape(value)}</b>" for name, value in facts.items())
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_CONTENT_POLICY}">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head>",
            f'<body><h1>{escape(title)}</h1><p class="facts">{told}</p>',
            *parts,
            "</body></html>",
            "",
        ]
    )


def _section(kind: ChangeKind, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield f'<h2 class="{kind.value}">{KIND_WORDS[kind].capitalize()}: {len(rows)}</h2>'
        yield _table(heading, rows)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heading)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _answer(cell: Cell) -> str:
    stated = [name for name in (cell.legal_basis, cell.memorandum) if name]
    way = f"{escape(cell.operation)}; {' and '.join(map(_code, stated)) or 'nothing to state'}"
    return f'<span class="tier">{escape(cell.tier)}</span><br><span class="way">{way}</span>'


def _fields(cell: Cell) -> str:
    lines = [f"{escape(name)}: {', '.join(map(_code, fields))}" for name, fields in cell.treatments.items()]
    lines += [
        f"duty {escape(name)}: {escape(show_parameters(params))}" for name, params in cell.duties.items()
    ]
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_code(item)}</li>' for item in items)}</ul>" if items else ""


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"
