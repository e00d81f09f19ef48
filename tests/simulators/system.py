"""One of the world's systems: described in a few lines, then running as real processes.

    SYSTEM = System(
        consumers=("harbour-bank",),
        holdings=(Holding("members/tax/datasets/arrears", records),),
    )

Members, datasets and policy are the shipped ones. What a system needs beside them it names: descriptions of
more datasets, members that policy data does not know, a change of the policy folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.sqlite_reader import SqliteReader
from gateway.catalogue import read_dataset
from gateway.client import Client, ClientError, Listed, Match, Page
from gateway.config import GatewayConfig
from gateway.demo.processes import free_ports
from gateway.deployment import Deployment, MemberFiles, add_member, change_endpoint, export_trust, initialise
from gateway.deployment.layout import gateway_uri, member_uri
from gateway.evidence.trust import Trust
from gateway.model import Dataset, Entry, EntryKind, Member, Role, parse_dataset_name
from gateway.pki.authority import CertificateAuthority
from tests.simulators.commands import Command, run_command, running
from tests.simulators.shared_time import SharedTime
from tests.simulators.sources import Holding, write_source

REFUSALS = (EntryKind.EXCHANGE_DENIED, EntryKind.EXCHANGE_FAILED)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A member that the shipped policy data does not name."""

    id: str
    member_class: str
    roles: frozenset[Role] = frozenset({Role.CONSUMER})


@dataclass(frozen=True, slots=True)
class System:
    """Who takes part, and who holds what."""

    consumers: tuple[str, ...]
    """Members of the shipped policy data who ask."""
    holdings: tuple[Holding, ...] = ()
    newcomers: tuple[Newcomer, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """File name to ODCS text of datasets that are not among the shipped ones."""
    change_policies: Callable[[Path], None] | None = None
    """Changes the copy of the shipped policies that the deployment gets."""
    details: bool = False
    """Whether details of exchanges are kept for officers, sealed to two custodians."""
    ask_again_at_once: bool = False
    """Whether a list may be asked about the same subject again without waiting."""
    metrics: bool = False
    """Whether a test reads the gateway's metrics."""
    moves_time: bool = False
    """Whether a test moves the time of its processes (see `SharedTime`)."""
    before: str = ""
    """A statement that switches a defence off in the gateway and the providers, for a control."""
    origin: str = "audit.example.org/log/scenario"


@dataclass(frozen=True, slots=True)
class Released:
    """An answer, and the entry of the log that says what left."""

    page: Page
    entry: Entry

    @property
    def records(self) -> list[dict[str, Any]]:
        return self.page.records


class RunningSystem:
    """A system that runs: its members ask, and whoever may looks at the log."""

    def __init__(self, system: System, directory: Path) -> None:
        self.system = system
        self.directory = directory
        self.time = SharedTime(directory / "ahead") if system.moves_time else None
        self.deployment: Deployment
        self.config: GatewayConfig
        self._descriptions: dict[str, Dataset] = {}
        self.members: dict[str, MemberFiles] = {}
        self.gateway: Command
        self.metrics_url = ""
        self.address = ""
        """Where the gateway listens now."""
        self.providers: dict[str, Command] = {}
        self._clients: dict[str, Client] = {}
        self._stack = ExitStack()
        self._asked = ExitStack()

    # -- asking ----------------------------------------------------------------------------------

    def client(self, member: str) -> Client:
        """Return the client of a member, as `client.toml` describes it."""
        if member not in self._clients:
            self._clients[member] = self._asked.enter_context(
                Client.from_config(self.members[member].client_config, **self._clock)
            )
        return self._clients[member]

    @property
    def _clock(self) -> dict[str, Any]:
        return {} if self.time is None else {"clock": self.time}

    def cli(self, member: str, *words: object) -> tuple[int, str, str]:
        """Run a command as a member does; return its exit code, standard output and standard error."""
        done = run_command(*words, "--config", self.members[member].client_config)
        return done.returncode, done.stdout, done.stderr

    def officer(self, *words: object, text: str = "") -> str:
        """Run a command as an officer does at the gateway; fail unless it succeeds; return its output."""
        done = run_command(*words, "--config", self.deployment.config, text=text, before=self._before)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def released(self, member: str, dataset: str, **parts: Any) -> Released:
        """Ask; fail unless records are released, with a receipt that holds and an entry that says so."""
        page = self.client(member).query(dataset, **parts)
        assert page.verified is not None
        entry = page.verified.entry
        self._assert_says(entry, member, dataset, parts)
        assert entry.kind is EntryKind.EXCHANGE_RELEASED
        assert set(entry.released) == set(page.fields)
        if "round_counts" not in entry.duties:
            assert entry.records == len(page.records)
        assert all(set(record) <= set(page.fields) for record in page.records)
        assert self.entry(page.verified.index) == entry
        return Released(page, entry)

    def matched(self, member: str, dataset: str, **parts: Any) -> Match:
        """Ask for one bit; fail unless it comes with a receipt that holds, and with no record."""
        match = self.client(member).match(dataset, **parts)
        assert match.verified is not None
        assert match.verified.entry.kind is EntryKind.EXCHANGE_RELEASED
        assert match.verified.entry.operation == "match"
        return match

    def listed(self, member: str, lists: str, **parts: Any) -> Listed:
        """Ask a list, or a set of lists; fail unless the answer comes with a receipt that holds."""
        answer = self.client(member).ask_lists(lists, **parts)
        assert answer.verified is not None
        entry = self.entry(answer.verified.index)
        assert (entry.kind, entry.operation) == (EntryKind.EXCHANGE_RELEASED, "list")
        self._assert_says(entry, member, lists, parts)
        return answer

    def refused(self, reason: str, member: str, dataset: str, **parts: Any) -> Entry:
        """Ask; fail unless it is refused for `reason`, and the log says so and tells of no release.

        With `operation="stream"` it is asked for in bulk, with `match` whether the values are right.
        """
        client = self.client(member)
        operation = parts.pop("operation", "match" if "match" in parts else "query")
        try:
            if operation == "stream":
                list(client.stream(dataset, **parts))
            else:
                getattr(client, operation)(dataset, **parts)
        except ClientError as error:
            return self._refusal(error, reason)
        raise AssertionError(f"released, though {reason} was expected")

    def _refusal(self, error: ClientError, reason: str) -> Entry:
        assert reason in error.reasons, f"refused for {error.reasons}, not for {reason}"
        assert error.entry is not None, "the refusal names no entry"
        entry = self.entry(error.entry)
        assert entry.kind in REFUSALS
        assert reason in entry.reasons
        # A failure names the fields that were about to be released, and how much left all the same: nothing.
        assert entry.kind is EntryKind.EXCHANGE_FAILED or not entry.released
        assert (entry.records, entry.bytes) == (0, 0)
        kinds = {each.kind for each in self.entries() if each.exchange == entry.exchange}
        assert EntryKind.EXCHANGE_RELEASED not in kinds
        return entry

    def _assert_says(self, entry: Entry, member: str, dataset: str, parts: Mapping[str, Any]) -> None:
        assert (entry.consumer, entry.dataset, entry.purpose) == (member, dataset, parts["purpose"])
        assert entry.legal_basis == parts.get("legal_basis", "")
        assert entry.memorandum == parts.get("memorandum", "")

    # -- the log ---------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Return every entry, as whoever has access to the log's file reads it."""
        with closing(SqliteReader(self.config.log.database)) as reader:
            return [
                msgspec.json.decode(reader.entry(index).data, type=Entry) for index in range(reader.size())
            ]

    def entry(self, index: int) -> Entry:
        with closing(SqliteReader(self.config.log.database)) as reader:
            return msgspec.json.decode(reader.entry(index).data, type=Entry)

    def assert_log_holds(self) -> None:
        """Fail unless the log verifies from end to end and holds no value of any record.

        Values are looked for in what the gateway and the providers wrote as well.
        """
        report = fsck(self.config.log.database, self.verifier)
        assert report.findings == ()
        assert report.entries == len(self.entries()) > 0
        told = "\n".join(
            [
                *(msgspec.json.encode(entry).decode() for entry in self.entries()),
                *(json.dumps(command.told()) for command in (self.gateway, *self.providers.values())),
            ]
        )
        for value in self.secrets():
            assert value not in told, "a value of a record stands in the log"

    def secrets(self) -> set[str]:
        """Return the identifiers that the providers hold: none may stand in the log."""
        found: set[str] = set()
        for holding in self.system.holdings:
            kinds = self.description(holding.dataset).fields
            for record in holding.records:
                found |= {
                    str(value)
                    for name, value in record.items()
                    # An area code names no subject, and six digits stand in many a number.
                    if kinds[name].identifier not in {None, "area-code"} and value
                }
        return found

    @property
    def verifier(self) -> Ed25519Verifier:
        return Ed25519Verifier.from_vkey(Trust.load(self.deployment.trust).log_keys[0])

    def description(self, dataset: str) -> Dataset:
        """Return how a dataset is described that somebody here holds."""
        return self._descriptions[dataset]

    def _read_descriptions(self) -> dict[str, Dataset]:
        tiers = [row["name"] for row in self._policy_data("tiers")]
        ids = {parse_dataset_name(holding.dataset)[1] for holding in self.system.holdings}
        found = {}
        for path in self.config.catalogue.glob("*.yaml"):
            # A catalogue of hundreds is read by the gateway; here only what is needed.
            text = path.read_text()
            if ids & set(re.findall(r"^id: (.+)$", text, re.MULTILINE)):
                dataset = read_dataset(path, tiers)
                found[dataset.name] = dataset
        return found

    def _policy_data(self, chapter: str) -> Any:
        path = self.config.policy.directory / "data" / f"{chapter}.yaml"
        return yaml.safe_load(path.read_text())[chapter]

    # -- running ---------------------------------------------------------------------------------

    def build(self) -> None:
        """Make the deployment: authority, keys, log, members, catalogue, policies, sources."""
        [metrics_port] = free_ports(1) if self.system.metrics else [0]
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self.deployment = initialise(
            self.directory / "gateway",
            origin=self.system.origin,
            listen="127.0.0.1:0",
            metrics_port=metrics_port,
        )
        self.config = self.deployment.load()
        if self.system.details:
            self._keep_details()
        if self.system.ask_again_at_once:
            self._add_settings("[lists]\nagain_after_s = 0\nanswer_after_ms = 200")
        if self.system.change_policies is not None:
            self.system.change_policies(self.config.policy.directory)
        for name, text in self.system.descriptions.items():
            (self.config.catalogue / name).write_text(text, encoding="utf-8")
        self._descriptions = self._read_descriptions()
        authority = CertificateAuthority.load(*self.deployment.authority)
        for member in self._members():
            self.members[member.id] = add_member(
                self.config,
                member,
                authority,
                self.directory / "members" / member.id,
                gateway_address="127.0.0.1:0",
            )
        trust = export_trust(self.config).to_json()
        for path in (self.deployment.trust, *(f.directory / "trust.json" for f in self.members.values())):
            path.write_bytes(trust)
        for provider, holdings in self._by_provider().items():
            self._write_provider(provider, holdings)

    def _keep_details(self) -> None:
        """Make two custodians, and have the gateway seal details to them."""
        cards = []
        for name in ("chen", "lin"):
            secret = self.directory / f"{name}.custodian"
            assert run_command("custodian", "init", secret, "--name", name).returncode == 0
            cards.append(str(secret.with_name(f"{secret.name}.card")))
        self._add_settings(f"[details]\ncustodians = {json.dumps(cards)}")

    def _add_settings(self, section: str) -> None:
        with self.deployment.config.open("a") as file:
            file.write(f"\n{section}\n")
        self.config = self.deployment.load()

    def _members(self) -> Iterator[Member]:
        known = self._policy_data("members")
        newcomers = {newcomer.id for newcomer in self.system.newcomers}
        for member_id in sorted({*self.system.consumers, *self._by_provider()} - newcomers):
            row = known[member_id]
            yield _member(member_id, row["title"], row["class"], frozenset(map(Role, row["roles"])))
        for newcomer in self.system.newcomers:
            yield _member(newcomer.id, newcomer.id, newcomer.member_class, newcomer.roles)

    def _by_provider(self) -> dict[str, list[Holding]]:
        found: dict[str, list[Holding]] = {}
        for holding in self.system.holdings:
            found.setdefault(parse_dataset_name(holding.dataset)[0], []).append(holding)
        return found

    def _write_provider(self, provider: str, holdings: Sequence[Holding]) -> None:
        folder = self.members[provider].directory
        mapping = [f'member = "{provider}"\n']
        mapping += [write_source(folder, self.description(item.dataset), item) for item in holdings]
        (folder / "mapping.toml").write_text("\n".join(mapping), encoding="utf-8")
        (folder / "provider.toml").write_text(_PROVIDER.format(gateway_uri=gateway_uri()))

    def start(self) -> None:
        """Start a provider process for each member that holds something, then the gateway."""
        commands = {
            provider: self._stack.enter_context(
                running(
                    "provider",
                    "--config",
                    self.members[provider].directory / "provider.toml",
                    before=self._before,
                )
            )
            for provider in self._by_provider()
        }
        for provider, command in commands.items():
            port = command.wait_for("provider.started")["port"]
            change_endpoint(self.config, provider, f"127.0.0.1:{port}")
        self.providers = commands
        self.start_gateway()

    def start_gateway(self) -> None:
        """Start the gateway, and tell its members where it listens."""
        self.gateway = self._stack.enter_context(
            running("serve", "--config", self.deployment.config, before=self._before)
        )
        self.address = f"127.0.0.1:{self.gateway.wait_for('gateway.started')['port']}"
        for files in self.members.values():
            lines = files.client_config.read_text().splitlines(keepends=True)
            files.client_config.write_text(
                "".join(
                    f'address = "{self.address}"\n' if line.startswith("address") else line for line in lines
                )
            )

    @property
    def _before(self) -> str:
        return self.system.before if self.time is None else f"{self.time.before}\n{self.system.before}"

    def stop_gateway(self) -> None:
        """Stop the gateway as an operator does; fail unless it ends cleanly."""
        self._asked.close()
        self._clients.clear()
        assert self.gateway.stop() == 0

    def fails_to_start(self) -> str:
        """Start the gateway; fail unless it refuses to; return what it says."""
        done = run_command("serve", "--config", self.deployment.config)
        assert done.returncode not in {0, 1}, "the gateway has started"
        return done.stderr

    def restart_gateway(self) -> None:
        """Stop it and start it again, on the same files or on what has been changed in them."""
        self.stop_gateway()
        self.start_gateway()

    def stop(self) -> None:
        """Stop everything; nothing outlives this call."""
        self._asked.close()
        self._stack.close()


@contextmanager
def run_system(system: System, directory: Path) -> Iterator[RunningSystem]:
    """Yield `system` while it runs in `directory`; stop it in the end."""
    found = RunningSystem(system, directory)
    found.build()
    try:
        found.start()
        yield found
    finally:
        found.stop()


def _member(member_id: str, title: str, member_class: str, roles: frozenset[Role]) -> Member:
    return Member(
        id=member_id,
        title=title,
        member_class=member_class,
        roles=roles,
        uri=member_uri(member_id),
        signing_keys={},
        # Replaced once its provider runs and has a port of its own.
        endpoint="127.0.0.1:1" if Role.PROVIDER in roles else None,
    )


def replace_in(path: Path, old: str, new: str) -> None:
    """Replace `old` in a file; fail unless it is there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} does not say {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


_PROVIDER = """\
listen = "127.0.0.1:0"
signing_key = "signing.key"
trust = "trust.json"
gateway_uri = "{gateway_uri}"
mapping = "mapping.toml"

[tls]
certificate = "member.pem"
key = "tls.key"
client_ca = "ca.pem"
"""
