"""What the chapters of the story share: who asks, about whom, and what has come of it so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.audit.receipt import Receipt, VerifiedReceipt
from gateway.client import AsyncClient, Page, Subject
from gateway.demo.narrator import Narrator
from gateway.demo.synthetic import Arrears, Company
from gateway.demo.world import MEMBERS
from gateway.errors import GatewayError
from gateway.evidence import dsse
from gateway.identifiers import uscc
from gateway.model import Entry

TITLES: Final = {member_id: title for member_id, title, *_ in MEMBERS}

_TOLD: Final = {"generalise": "generalised", "mask": "masked", "pseudonymise": "pseudonym"}


class StoryError(GatewayError):
    """The gateway did something else than the story says it does."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a recipient keeps of one release, to prove it later."""

    index: int
    """Of the log entry that says so."""
    name: str
    receipt: Receipt
    pages: tuple[tuple[bytes, bytes], ...] = ()
    """(records, salt seed) of each page."""
    query: bytes | None = None
    """The signed bytes of the query statement."""


@dataclass(slots=True)
class Stage:
    """The members' clients, the company the story is about, and what the exchanges have left."""

    narrator: Narrator
    clients: dict[str, AsyncClient]
    company: Company
    arrears: Arrears
    """What the company owes."""
    sellers: Sequence[Company]
    """Those of whom a company gives what it knows; the first is the one the story is about."""
    stranger_id: str
    """The number of a person who does not represent it."""
    company_count: int
    evidence: list[Evidence] = field(default_factory=list)
    denied: int = 0
    used: dsse.Envelope | None = None
    """A signed statement that has been answered."""

    @property
    def subject(self) -> Subject:
        """The company, as a query names it."""
        return Subject("uscc", self.company.uscc)

    def keep(
        self,
        name: str,
        receipt: Receipt | None,
        verified: VerifiedReceipt | None,
        pages: tuple[tuple[bytes, bytes], ...] = (),
        query: bytes | None = None,
    ) -> None:
        """Keep what proves a release, and tell of it; raise `StoryError` without a receipt."""
        if receipt is None or verified is None:
            raise StoryError("An answer came without a receipt that the client has verified.")
        self.evidence.append(Evidence(verified.index, name, receipt, pages, query))
        self.narrator.released(f"receipt verified on arrival (log entry {verified.index})")

    def keep_page(self, name: str, page: Page, query: bytes | None = None) -> None:
        """Keep what proves an answer of one page."""
        self.keep(name, page.receipt, page.verified, ((page.text, page.seed),), query)

    def show_side_by_side(
        self, holder: str, held: Mapping[str, Any], page: Page, recipient: str = "bank"
    ) -> None:
        """Show a record as its holder has it beside what came of it."""
        record, entry = only_record(page), entry_of(page)
        self.narrator.table(
            ["field", f"{holder} holds", f"{recipient} receives", ""],
            [
                (name, str(value), str(record.get(name, "-")), treatment_of(name, entry))
                for name, value in held.items()
            ],
        )


def treatment_of(name: str, entry: Entry) -> str:
    """Return in a word what the entry says has become of a field."""
    if name not in entry.released:
        return "withheld"
    return _TOLD.get(entry.obligations.get(name, ""), "released")


def only_record(page: Page) -> dict[str, Any]:
    """Return the page's one record; raise `StoryError` if there are more or less."""
    if len(page) != 1:
        raise StoryError("An answer about one company does not hold one record.")
    return page.records[0]


def entry_of(page: Page) -> Entry:
    """Return the log entry that the page's receipt proves."""
    if page.verified is None:
        raise StoryError("An answer came without a receipt that the client has verified.")
    return page.verified.entry


def mistyped(code: str) -> str:
    """Return a social credit code with a check character that does not fit."""
    return code[:-1] + next(character for character in uscc.ALPHABET if character != code[-1])


def expect(holds: bool, otherwise: str) -> None:
    """Raise `StoryError` with `otherwise` unless `holds`."""
    if not holds:
        raise StoryError(otherwise)
