"""Which logs and witnesses are trusted, and how many of them must agree (c2sp.org/tlog-policy).

Pure. A policy file has one definition a line; every error names its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.cosignature import CosignatureVerifier, LogVerifier, cosigner_of, log_verifier_of
from gateway.audit.errors import NoteError, NoteSignatureError, WitnessPolicyError, WitnessQuorumError
from gateway.audit.note import Verifier, parse_note

MAX_POLICY_BYTES: Final = 1024 * 1024
MAX_LOGS: Final = 256
MAX_WITNESSES: Final = 256
MAX_GROUPS: Final = 256
"""The specification asks for at least 32 of each."""

NO_QUORUM: Final = "none"
"""The predefined quorum that asks for no cosignature."""

_MAX_THRESHOLD_DIGITS: Final = 4
_BLANKS: Final = " \t"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log that the policy accepts; the key's name is its origin."""

    verifier: LogVerifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A witness, under the name by which the policy speaks of it."""

    name: str
    verifier: CosignatureVerifier
    url: str | None = None
    """Its submission prefix; needed only by who asks it to cosign."""


@dataclass(frozen=True, slots=True)
class WitnessGroup:
    """A group, which has witnessed what at least `threshold` of its members have."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that verifies, by a witness of the policy."""

    witness: str
    moment: datetime


@dataclass(frozen=True, slots=True)
class WitnessedCheckpoint:
    """A checkpoint of a trusted log that enough witnesses have cosigned."""

    checkpoint: Checkpoint
    cosignatures: tuple[Cosignature, ...]
    """The latest of each witness, in the order of the policy."""


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """Trusted logs and witnesses, and the quorum."""

    logs: tuple[KnownLog, ...]
    witnesses: tuple[KnownWitness, ...]
    groups: tuple[WitnessGroup, ...]
    """Each after those it is made of."""
    quorum: str
    """Name of a witness or group, or `none`."""

    @classmethod
    def parse(cls, raw: bytes) -> WitnessPolicy:
        """Read a policy file, strictly; raise `WitnessPolicyError` that names the line."""
        if len(raw) > MAX_POLICY_BYTES:
            raise WitnessPolicyError("The witness policy is larger than 1 MiB; it should be a few kilobytes.")
        parser = _Parser()
        for number, line in enumerate(raw.split(b"\n"), start=1):
            parser.read(number, line)
        return parser.finish()

    @classmethod
    def load(cls, path: Path) -> WitnessPolicy:
        """Read the policy file at `path`; raise `WitnessPolicyError`."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_POLICY_BYTES + 1)
        except OSError as error:
            raise WitnessPolicyError(
                f"The witness policy {path} cannot be read ({error.strerror})."
            ) from error
        try:
            return cls.parse(raw)
        except WitnessPolicyError as error:
            line = int(error.details.get("line", 0))
            raise WitnessPolicyError(f"{path}: {error.message}", line=line) from error

    def meets_quorum(self, witnesses: AbstractSet[str]) -> bool:
        """Return whether these witnesses, by name, are enough. Their cosignatures are verified elsewhere."""
        satisfied = set(witnesses)
        for group in self.groups:
            if sum(member in satisfied for member in group.members) >= group.threshold:
                satisfied.add(group.name)
        return self.quorum == NO_QUORUM or self.quorum in satisfied

    def verify(
        self, note: str, *, origin: str | None = None, log_verifiers: Sequence[Verifier] = ()
    ) -> WitnessedCheckpoint:
        """Return the checkpoint in `note` once a trusted log and a quorum of witnesses signed it.

        1. A key of a log of the policy signed it, for the log its name says; if the policy lists no log, one
           of `log_verifiers`, which must have signed it in any case where they are given.
        2. It is a checkpoint of `origin`, if that is given.
        3. Every cosignature by a witness of the policy verifies, and says when it was made.
        4. The witnesses are a quorum.

        Raises `NoteError` and `NoteSignatureError` for 1 to 3 and `WitnessQuorumError` for 4.
        """
        listed: list[Verifier] = [log.verifier for log in self.logs]
        if not listed and not log_verifiers:
            raise NoteSignatureError("The witness policy lists no log, and no log key was given besides.")
        checkpoint = open_checkpoint(note, listed or log_verifiers, origin=origin)  # 1, 2
        if listed and log_verifiers:
            open_checkpoint(note, log_verifiers, origin=origin)
        cosignatures = self.cosignatures(note)  # 3
        if not self.meets_quorum({cosignature.witness for cosignature in cosignatures}):  # 4
            found = ", ".join(_printable(item.witness) for item in cosignatures) or "nobody"
            raise WitnessQuorumError(
                f"The checkpoint is not witnessed: cosigned by {found} of the witness policy, which asks for "
                f"{_printable(self.quorum)}. Ask for a newer proof, under a checkpoint that is."
            )
        return WitnessedCheckpoint(checkpoint, cosignatures)

    def cosignatures(self, note: str) -> tuple[Cosignature, ...]:
        """Return the cosignatures on `note` by witnesses of the policy; others are ignored.

        Raises `NoteError` for a malformed note and `NoteSignatureError` if one does not verify or has no
        time.
        """
        parsed = parse_note(note)
        known = {(item.verifier.name, item.verifier.key_id): item for item in self.witnesses}
        latest: dict[str, int] = {}
        for signature in parsed.signatures:
            witness = known.get((signature.name, signature.key_id))
            if witness is None:
                continue
            time_s = witness.verifier.cosigned_at_s(parsed.text, signature.signature)
            if time_s == 0:
                raise NoteSignatureError("A witness's cosignature does not say when it was made.")
            latest[witness.name] = max(time_s, latest.get(witness.name, 0))
        return tuple(
            Cosignature(item.name, _moment(latest[item.name]))
            for item in self.witnesses
            if item.name in latest
        )

    def to_bytes(self) -> bytes:
        """Return the policy as a file, in the order logs, witnesses, groups, quorum."""
        lines = [f"log {log.verifier.vkey()} {log.url or ''}".rstrip() for log in self.logs]
        lines += [
            f"witness {item.name} {item.verifier.vkey()} {item.url or ''}".rstrip() for item in self.witnesses
        ]
        lines += [f"group {item.name} {item.threshold} {' '.join(item.members)}" for item in self.groups]
        lines.append(f"quorum {self.quorum}")
        return ("\n".join(lines) + "\n").encode(errors="surrogateescape")


class _Parser:
    """The policy as far as it has been read."""

    def __init__(self) -> None:
        self._logs: list[KnownLog] = []
        self._witnesses: list[KnownWitness] = []
        self._groups: list[WitnessGroup] = []
        self._names = {NO_QUORUM}
        self._members: set[str] = set()
        self._quorum: str | None = None
        self._number = 0
        self._statements: dict[str, Callable[[list[str]], None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._set_quorum,
        }

    def read(self, number: int, raw: bytes) -> None:
        """Take one line without its newline."""
        self._number = number
        if _CONTROL.search(raw):
            raise self._wrong("holds a control character; only tabs and newlines are allowed")
        # Octets above 0x7F are opaque: the escape keeps what is no UTF-8 apart and brings it back.
        text = raw.decode(errors="surrogateescape").strip(_BLANKS)
        if not text or text.startswith("#"):
            return
        keyword, *items = [item for item in text.replace("\t", " ").split(" ") if item]
        statement = self._statements.get(keyword)
        if statement is None:
            raise self._wrong("begins with none of log, witness, group and quorum")
        statement(items)

    def finish(self) -> WitnessPolicy:
        """Return the policy; raise `WitnessPolicyError` if it has no quorum."""
        if self._quorum is None:
            raise WitnessPolicyError("The witness policy has no quorum line; add one, such as `quorum none`.")
        return WitnessPolicy(tuple(self._logs), tuple(self._witnesses), tuple(self._groups), self._quorum)

    def _log(self, items: list[str]) -> None:
        if len(items) not in {1, 2}:
            raise self._wrong("must be: log VKEY [URL]")
        log = KnownLog(self._key(log_verifier_of, items[0]), items[1] if items[1:] else None)
        self._refuse_repeated(log.verifier.public, (known.verifier.public for known in self._logs))
        self._refuse_excess(self._logs, MAX_LOGS)
        self._logs.append(log)

    def _witness(self, items: list[str]) -> None:
        if len(items) not in {2, 3}:
            raise self._wrong("must be: witness NAME VKEY [URL]")
        name, vkey, *url = items
        self._define(name)
        witness = KnownWitness(name, self._key(cosigner_of, vkey), url[0] if url else None)
        self._refuse_repeated(witness.verifier.public, (known.verifier.public for known in self._witnesses))
        self._refuse_excess(self._witnesses, MAX_WITNESSES)
        self._witnesses.append(witness)

    def _group(self, items: list[str]) -> None:
        if len(items) < 3:  # noqa: PLR2004 - the three parts that the message names
            raise self._wrong("must be: group NAME all|any|NUMBER MEMBER…, with at least one member")
        name, threshold, *members = items
        for member in members:
            if member == NO_QUORUM or member not in self._names:
                raise self._wrong("has a member that no line above defines")
            if member in self._members:
                raise self._wrong("has a member that is in a group already; each may be in one, once")
            self._members.add(member)
        self._define(name)
        self._refuse_excess(self._groups, MAX_GROUPS)
        self._groups.append(WitnessGroup(name, self._threshold(threshold, len(members)), tuple(members)))

    def _set_quorum(self, items: list[str]) -> None:
        if len(items) != 1:
            raise self._wrong("must be: quorum NAME")
        if self._quorum is not None:
            raise self._wrong("is a second quorum; a policy has exactly one")
        if items[0] not in self._names:
            raise self._wrong("names a quorum that no line above defines")
        self._quorum = items[0]

    def _threshold(self, text: str, members: int) -> int:
        if text in {"all", "any"}:
            return members if text == "all" else 1
        if (
            not text.isascii()
            or not text.isdigit()
            or len(text) > _MAX_THRESHOLD_DIGITS
            or text.startswith("0")
        ):
            raise self._wrong("has a threshold that is neither `all`, `any` nor a decimal number from 1")
        if int(text) > members:
            raise self._wrong("asks for more members than the group has")
        return int(text)

    def _define(self, name: str) -> None:
        if name == NO_QUORUM:
            raise self._wrong("defines `none`, which has a meaning of its own; use another name")
        if name in self._names:
            raise self._wrong("defines a name that a line above has defined")
        self._names.add(name)

    def _key(self, parse: Callable[[str], _Key], text: str) -> _Key:
        try:
            return parse(text)
        except NoteError as error:
            raise self._wrong(f"has no usable key: {error.message}") from error

    def _refuse_repeated(self, public: bytes, known: Iterable[bytes]) -> None:
        if public in set(known):
            raise self._wrong("repeats a public key, which would count twice; each may stand once")

    def _refuse_excess(self, found: Sequence[object], limit: int) -> None:
        if len(found) >= limit:
            raise self._wrong(f"is one too many; at most {limit} of its kind are read")

    def _wrong(self, what: str) -> WitnessPolicyError:
        return WitnessPolicyError(f"Line {self._number} of the witness policy {what}.", line=self._number)


def _moment(time_s: int) -> datetime:
    try:
        return datetime.fromtimestamp(time_s, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise NoteSignatureError("A witness's cosignature is of a year that cannot be.") from error


def _printable(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
