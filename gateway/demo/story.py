"""`gateway demo`: a whole deployment, real processes, every kind of exchange, and the proof of it.

set up      a fresh deployment, three processes        world, processes
ask         what is released, what is refused          releases, refusals
give        a company's records, under its contract    sellers, contribution
prove       receipts, the log, a log that was changed  proofs
keep        leave it running, and say how to call it   invitation
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.audit.stores import require_file_log
from gateway.client import AsyncClient, ClientError
from gateway.demo import proofs
from gateway.demo.contribution import tell_contribution
from gateway.demo.invitation import invite, write_environment
from gateway.demo.narrator import Narrator
from gateway.demo.processes import ProcessError, Processes, free_ports, own_environment
from gateway.demo.refusals import tell_refusals
from gateway.demo.releases import tell_releases
from gateway.demo.sellers import CONTRIBUTOR
from gateway.demo.stage import Stage, StoryError
from gateway.demo.synthetic import Arrears, Company, arrears
from gateway.demo.world import ORIGIN, SEED, World, build_world
from gateway.errors import GatewayError
from gateway.model import member_host
from gateway.pki.reload import channel_credentials

COMPANIES: Final = 10_000
MIN_COMPANIES: Final = 100
"""Among so many there is one that owes tax."""

SELLERS: Final = 20
"""Companies of which another one gives what it knows."""

TIMEOUT_S: Final = 30.0
"""Of each call; a busy machine may need many seconds, where milliseconds are usual."""

INTERRUPTED: Final = 130
TERMINATED: Final = 143
"""Exit codes by which shells know SIGINT and SIGTERM."""


@dataclass(frozen=True, slots=True)
class _Ports:
    gateway: int
    registry: int
    tax: int
    metrics: int


def run(keep: bool = False, *, company_count: int = COMPANIES) -> int:
    """Tell the whole story on standard output; return the exit code.

    0 when everything went as told. With `keep` the processes run on until Ctrl-C, and the folder
    stays. Anything else that ends the story is told on standard error with the ends of the
    processes' logs; no process is left in any case.
    """
    directory = Path(tempfile.mkdtemp(prefix="sluicegate-demo-"))
    demo = Demo(directory, Narrator(), company_count)
    try:
        with own_environment():
            return asyncio.run(demo.play(keep=keep))
    except KeyboardInterrupt:
        return 0 if demo.told else INTERRUPTED
    except asyncio.CancelledError:
        return 0 if demo.told else TERMINATED
    finally:
        if keep and demo.told:
            sys.stderr.write(f"Stopped. The files are still in {directory}\n")
        else:
            shutil.rmtree(directory)


class Demo:
    """One telling of the story, in one folder."""

    def __init__(self, directory: Path, narrator: Narrator, company_count: int) -> None:
        self.told = False
        """Whether the story has been told to its end."""
        self._directory = directory
        self._narrator = narrator
        self._company_count = company_count

    async def play(self, *, keep: bool) -> int:
        """Tell everything; return the exit code."""
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        logs = self._directory / "logs"
        logs.mkdir()
        with Processes(logs) as processes:
            try:
                await self._tell(processes, keep=keep)
            except BrokenPipeError:
                raise
            except (GatewayError, ClientError, OSError) as error:
                _tell_failure(error, processes)
                return 1
        return 0

    async def _tell(self, processes: Processes, *, keep: bool) -> None:
        narrator = self._narrator
        narrator.title("Sluicegate: one company, fifteen questions, and the proof of the answers")
        ports = _Ports(*free_ports(4))
        began_s = time.monotonic()
        with narrator.working("making a deployment"):
            world = build_world(
                self._directory,
                gateway_port=ports.gateway,
                registry_port=ports.registry,
                tax_port=ports.tax,
                metrics_port=ports.metrics,
                company_count=self._company_count,
                reflection=True,
            )
        company, debt = _debtor(world)
        narrator.say(
            f"A fresh deployment in {self._directory}: certificates, keys, policy, six members, the audit "
            f"log {ORIGIN}. The registry's database holds {len(world.companies):,} companies. All of it is "
            "invented."
        )
        await _start(processes, narrator, world, ports)
        narrator.say(f"Ready after {time.monotonic() - began_s:.1f} s.")
        stage = await self._ask(world, company, debt)
        processes.check()
        entries = self._prove(processes, world, stage, keep=keep)
        outcome = f"{len(stage.evidence)} released, {stage.denied} denied, log of {entries} entries verified"
        if not keep:
            narrator.last(f"demo: {outcome}")
            self.told = True
            return
        write_environment(self._directory, f"127.0.0.1:{ports.gateway}", ports.metrics, company.uscc)
        invite(narrator, self._directory, stage.evidence[-1].index)
        narrator.last(f"demo: {outcome}")
        self.told = True
        await processes.watch()

    async def _ask(self, world: World, company: Company, debt: Arrears) -> Stage:
        """Carry out all exchanges over real connections; return what has come of them."""
        async with AsyncExitStack() as stack:
            stage = Stage(
                narrator=self._narrator,
                clients={
                    member: await stack.enter_async_context(
                        AsyncClient.from_config(files.client_config, timeout_s=TIMEOUT_S)
                    )
                    for member, files in world.members.items()
                },
                company=company,
                arrears=debt,
                sellers=[company, *(other for other in world.companies[:SELLERS] if other != company)],
                stranger_id=next(
                    other.representative_id
                    for other in world.companies
                    if other.representative_id != company.representative_id
                ),
                company_count=len(world.companies),
            )
            await tell_releases(stage)
            await tell_refusals(stage)
            await tell_contribution(stage, world.members[CONTRIBUTOR].directory)
        return stage

    def _prove(self, processes: Processes, world: World, stage: Stage, *, keep: bool) -> int:
        """Verify everything offline; return the number of entries in the log."""
        narrator = self._narrator
        database = require_file_log(world.deployment.load().log.database, "The demonstration")
        trust = world.members["harbour-bank"].directory / "trust.json"
        files = proofs.write_receipts(stage.evidence, self._directory / "receipts")
        narrator.chapter("The receipts, verified offline")
        if keep:
            narrator.say("From files alone: the receipts and the trust file with the public keys.")
        else:
            processes.stop()
            narrator.say(
                "Gateway and providers are stopped. What remains are files: the receipts, and the trust file "
                "with the public keys."
            )
        proofs.verify_receipts(narrator, stage.evidence, files, trust)
        narrator.chapter("The whole log, from its entries up")
        entries = proofs.verify_log(narrator, database, trust, len(stage.evidence), stage.denied)
        narrator.chapter("A log that somebody has changed")
        query = next(item for item in stage.evidence if item.query is not None)
        proofs.tamper(narrator, database, query.index, trust, self._directory / "tampered.db")
        return entries


async def _start(processes: Processes, narrator: Narrator, world: World, ports: _Ports) -> None:
    registry, tax = world.provider_configs
    providers = [
        ("Registry's provider", "registry", ports.registry, registry),
        ("Tax office's provider", "tax", ports.tax, tax),
    ]
    gateway = processes.start("Gateway", ["serve", "--config", str(world.deployment.config)])
    waiting = [(gateway, "registry", f"127.0.0.1:{ports.gateway}", "")]
    rows = [("gateway", f"127.0.0.1:{ports.gateway}", str(gateway.pid))]
    for title, member, port, config in providers:
        provider = processes.start(title, ["provider", "--config", str(config)])
        waiting.append((provider, member, f"127.0.0.1:{port}", member_host(member)))
        rows.append((title.lower(), f"127.0.0.1:{port}", str(provider.pid)))
    with narrator.working("starting processes"):
        for running, member, address, host in waiting:
            directory = world.members[member].directory
            credentials = channel_credentials(
                directory / "ca.pem", directory / "member.pem", directory / "tls.key"
            )
            await processes.wait_until_serving(running, address, credentials, host)
    narrator.table(["process", "address", "pid"], rows)


def _debtor(world: World) -> tuple[Company, Arrears]:
    """Return the company the story is about: the first active one that owes tax."""
    by_code = {company.uscc: company for company in world.companies}
    for debt in arrears(world.companies, SEED):
        if by_code[debt.uscc].status == "active":
            return by_code[debt.uscc], debt
    raise StoryError("Among the companies there is none that owes tax; take more companies.")


def _tell_failure(error: Exception, processes: Processes) -> None:
    """Say on standard error what ended the story, and the last words of each process."""
    told = [f"\nThe demonstration failed: {error}"]
    if isinstance(error, ClientError):
        told.append(f"  reason {','.join(error.reasons)}, status {error.code}, log entry {error.entry}")
    if not isinstance(error, ProcessError):
        try:
            processes.check()
        except ProcessError as cause:
            told.append(f"  {cause}")
    for title, lines in processes.tails():
        told += ["", f"Last lines of {title}:", *(f"  {line}" for line in lines)]
    sys.stderr.write("\n".join(told) + "\n")
