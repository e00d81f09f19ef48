"""`gateway contract`: the terms under which a company's records may be used, from draft to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.cli.calls import calling
from gateway.cli.contract_draft import draft_terms, load_terms
from gateway.cli.contract_simulate import simulate_contract
from gateway.cli.failures import CommandError
from gateway.cli.options import parse_member, require_file, require_new_file
from gateway.cli.output import output_of, shown
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption, load_gateway_config
from gateway.client import Client, PartyContract
from gateway.clock import system_clock
from gateway.contracts.comparison import compare_terms
from gateway.evidence import dsse
from gateway.model import ContractState, Terms, contract_name, parse_contract_name

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Draft, simulate, propose, sign, compare, suspend and end contracts.",
)

_COLUMNS: Final = ("contract", "version", "state", "in_force", "valid_until", "parties", "signed_by", "title")
_DIFFERENCES: Final = ("effect", "where", "before", "after")

_RUNNING: Final = (ContractState.ACTIVE, ContractState.SUSPENDED)

ContractArgument = Annotated[
    str,
    typer.Argument(metavar="CONTRACT", help="The contract's name; or contracts/NAME/versions/NUMBER."),
]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The terms, as YAML; `gateway contract draft` makes one.")
]
VersionOption = Annotated[
    int | None,
    typer.Option("--version", min=1, metavar="NUMBER", help="Which version, if not the one that is meant."),
]
ReasonOption = Annotated[
    str,
    typer.Option(metavar="TEXT", help="Why: one line, naming nobody; the parties see it, and the log."),
]
OperatorOption = Annotated[
    Path | None,
    typer.Option(
        "--operator",
        metavar="FILE",
        help="Do it as the gateway's operator, with the gateway's configuration FILE.",
    ),
]


@app.command("draft")
def draft(
    context: typer.Context,
    description: Annotated[
        Path, typer.Argument(metavar="DESCRIPTION", help="The dataset's description, ODCS 3.1 as YAML.")
    ],
    contributor: Annotated[str, typer.Option(metavar="ID", help="The member that gives the records.")],
    recipient: Annotated[
        list[str], typer.Option(metavar="ID", help="A member that signs to receive; may be repeated.")
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The contract's name.  [default: CONTRIBUTOR-DATASET]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it here instead of printing it.")
    ] = None,
) -> None:
    """Write a contract to complete, with a comment on every term, from a dataset's description.

    Nothing is sent: a draft is its author's own.
    """
    require_file(description, "The description", "it is an ODCS 3.1 data contract as YAML")
    giver, takers = parse_member(contributor), [parse_member(member) for member in recipient]
    text = draft_terms(description, giver, takers, name or f"{giver}-{description.stem}", system_clock())
    output = output_of(context)
    if out is None:
        output.document(text)
        return
    require_new_file(out).write_text(text, encoding="utf-8")
    output.facts({"file": str(out)}, [f"Complete {out}, then propose it: gateway contract propose {out}"])


app.command("simulate")(simulate_contract)


@app.command("propose")
def propose(context: typer.Context, file: FileArgument, config: ClientConfigOption = CLIENT_CONFIG) -> None:
    """Sign terms and propose them to the other parties.

    A version number and the predecessor may be left out of the file: they are those that follow.
    """
    with calling(config) as client:
        done = client.contracts.propose(load_terms(file, client.contracts.list()))
    _tell(context, done, "Proposed and signed by this member")


@app.command("counter")
def counter(context: typer.Context, file: FileArgument, config: ClientConfigOption = CLIENT_CONFIG) -> None:
    """Answer a proposal with other terms, signed; what was proposed can no longer come into force."""
    with calling(config) as client:
        done = client.contracts.counter(load_terms(file, client.contracts.list()))
    _tell(context, done, "Answered with these terms, signed by this member")


@app.command("sign")
def sign(
    context: typer.Context,
    contract: ContractArgument,
    digest: Annotated[
        str,
        typer.Option(metavar="SHA256", help="The identity of what you have read (`gateway contract show`)."),
    ],
    version: VersionOption = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Sign what another party has proposed; with the last signature it comes into force."""
    with calling(config) as client:
        found = client.contracts.get(_resolve(client, contract, version, (ContractState.PROPOSED,)))
        if found.id != digest:
            raise CommandError(
                "The contract is not the one that you name by its digest. Look at it again with `gateway "
                "contract show`, and sign that."
            )
        done = client.contracts.sign(_terms(found))
    _tell(context, done, "Signed")


@app.command("show")
def show(
    context: typer.Context,
    contract: ContractArgument,
    version: VersionOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep the signed contract here (DSSE), for whoever wants to verify it."
        ),
    ] = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Show a contract's terms, who has signed, and where it stands; the signatures are verified."""
    with calling(config) as client:
        found = client.contracts.get(_resolve(client, contract, version))
    if out is not None:
        assert found.envelope is not None
        require_new_file(out).write_bytes(dsse.envelope_to_json(found.envelope) + b"\n")
    facts = {**_row(found), "terms": msgspec.to_builtins(_terms(found))}
    output_of(context).facts(facts, _lines(found))


@app.command("list")
def list_contracts(context: typer.Context, config: ClientConfigOption = CLIENT_CONFIG) -> None:
    """List the contracts that this member is a party to, in all their versions."""
    with calling(config) as client:
        rows = [_row(found) for found in client.contracts.list()]
    output_of(context).list(rows, _COLUMNS, nothing="This member is a party to no contract.")


@app.command("diff")
def diff(
    context: typer.Context,
    contract: ContractArgument,
    from_: Annotated[
        int | None,
        typer.Option(
            "--from", min=1, metavar="NUMBER", help="The version before.  [default: the one before]"
        ),
    ] = None,
    version: VersionOption = None,
    with_: Annotated[
        Path | None,
        typer.Option(
            "--with", metavar="FILE", help="Compare the newest version with the terms in this file."
        ),
    ] = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Show what differs between two versions, and whether it lets more or less be done with the records."""
    if with_ is not None and from_ is not None:
        raise CommandError("--with compares with the newest version, or that of --version; leave out --from.")
    with calling(config) as client:
        newest = client.contracts.get(_resolve(client, contract, version))
        if with_ is not None:
            before, after = _terms(newest), load_terms(with_, client.contracts.list())
        else:
            after = _terms(newest)
            number = from_ if from_ is not None else after.version - 1
            if number < 1:
                raise CommandError("This is the first version: there is none before it to compare with.")
            before = _terms(client.contracts.get(contract_name(after.contract, number)))
    rows = [msgspec.to_builtins(item) for item in compare_terms(before, after)]
    output_of(context).list(rows, _DIFFERENCES, nothing="The terms are the same.")


@app.command("suspend")
def suspend(
    context: typer.Context,
    contract: ContractArgument,
    reason: ReasonOption,
    version: VersionOption = None,
    operator: OperatorOption = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Suspend a contract: within a second nothing more is released under it, on any node."""
    if operator is not None:
        _as_operator(context, operator, contract, version, reason)
        return
    with calling(config) as client:
        done = client.contracts.suspend(_resolve(client, contract, version, _RUNNING), reason)
    _tell(context, done, "Suspended")


@app.command("resume")
def resume(
    context: typer.Context,
    contract: ContractArgument,
    version: VersionOption = None,
    operator: OperatorOption = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Take back your own suspension; the contract is in force again once nobody else suspends it."""
    if operator is not None:
        _as_operator(context, operator, contract, version, None)
        return
    with calling(config) as client:
        name = _resolve(client, contract, version, (ContractState.SUSPENDED,))
        done = client.contracts.resume(name)
    _tell(context, done, "Your suspension is taken back")


@app.command("terminate")
def terminate(
    context: typer.Context,
    contract: ContractArgument,
    reason: ReasonOption,
    version: VersionOption = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """End a contract for good, or reject or withdraw a proposal."""
    with calling(config) as client:
        done = client.contracts.terminate(_resolve(client, contract, version, _RUNNING), reason)
    _tell(context, done, "Ended")


def _as_operator(
    context: typer.Context, config: Path, contract: str, version: int | None, reason: str | None
) -> None:
    """Suspend a contract as the operator, or take that back if no `reason` is given."""
    # Only here: a member's command needs nothing of a deployment.
    from gateway.deployment import contracts as deployed  # noqa: PLC0415

    settings = load_gateway_config(config)
    known = [(item.name, item.standing.state) for item in deployed.contract_versions(settings)]
    wanted = _RUNNING if reason is not None else (ContractState.SUSPENDED,)
    name = _choose(known, contract, version, wanted)
    if reason is None:
        done = deployed.resume_contract(settings, name)
    else:
        done = deployed.suspend_contract(settings, name, reason)
    standing = done.standing
    facts = {"name": name, "digest": done.id, "state": standing.state.value, "held_by": standing.held_by}
    output_of(context).facts(facts, [f"{name} is {standing.state.value}."])


def _resolve(client: Client, contract: str, version: int | None, states: Sequence[ContractState] = ()) -> str:
    known = [(item.name, item.state) for item in client.contracts.list()]
    return _choose(known, contract, version, states)


def _choose(
    known: Sequence[tuple[str, ContractState]],
    contract: str,
    version: int | None,
    states: Sequence[ContractState],
) -> str:
    """Return the name of the version meant: the one asked for, the newest in `states`, or the newest."""
    try:
        contract, number = parse_contract_name(contract)
    except ValueError:
        contract, number = contract.removeprefix("contracts/"), version or 0
    if version is not None and version != number:
        raise CommandError("--version names another version than CONTRACT; leave one of them out.")
    own = [(parse_contract_name(name)[1], state) for name, state in known if _is_of(name, contract)]
    if not own:
        raise CommandError("There is no contract of this name; see `gateway contract list`.")
    if number:
        return contract_name(contract, number)
    fitting = [found for found, state in own if state in states]
    return contract_name(contract, max(fitting or [found for found, _ in own]))


def _is_of(name: str, contract: str) -> bool:
    return parse_contract_name(name)[0] == contract


def _terms(found: PartyContract) -> Terms:
    assert found.terms is not None
    return found.terms


def _tell(context: typer.Context, done: PartyContract, what: str) -> None:
    waiting = sorted(set(done.parties) - set(done.signed_by))
    state = f"{what}: {done.name} is {done.state.value}"
    if done.state is ContractState.PROPOSED:
        state += f"; still to sign: {', '.join(waiting)}"
    elif done.held_by:
        state += f", by {', '.join(done.held_by)}"
    output_of(context).facts(_row(done), [f"{state}.", f"digest  {done.id}"])


def _row(found: PartyContract) -> dict[str, Any]:
    contract, version = parse_contract_name(found.name)
    return {
        "contract": contract,
        "version": version,
        "name": found.name,
        "digest": found.id,
        "state": found.state.value,
        "in_force": found.in_force,
        "title": found.title,
        "parties": list(found.parties),
        "signed_by": list(found.signed_by),
        "held_by": list(found.held_by),
        "reason": found.reason,
        "changed": found.changed,
        "ended": found.ended,
        "valid_from": found.valid_from,
        "valid_until": found.valid_until,
    }


def _lines(found: PartyContract) -> list[str]:
    terms = _terms(found)
    facts = {
        "digest": found.id,
        "state": found.state.value + (f", by {', '.join(found.held_by)}" if found.held_by else ""),
        "reason": found.reason,
        "parties": [f"{party.member} ({party.role.value})" for party in terms.parties],
        "signed by": found.signed_by,
        "valid": f"{terms.valid_from} to {terms.valid_until}" + (" (in force)" if found.in_force else ""),
        "purposes": terms.purposes,
        "recipients": [*terms.recipients.members, *(f"class {name}" for name in terms.recipients.classes)],
        "quotas": [f"{quota.records} a {quota.per.value}, each {quota.each}" for quota in terms.quotas],
        "price": "" if terms.price is None else msgspec.to_builtins(terms.price),
        "in return": "" if terms.reciprocity is None else msgspec.to_builtins(terms.reciprocity),
        "onward sharing": terms.onward_sharing,
        "kept after the end": f"{terms.retention_days} days",
        "deleted by recipients": f"within {terms.deletion_days} days after the end",
        "contact": terms.contact,
        "paper": terms.paper or "",
        "predecessor": terms.predecessor or "",
    }
    width = max(map(len, facts))
    lines = [f"{found.name}  {terms.title}"]
    lines += [f"  {name:<{width}}  {shown(value)}" for name, value in facts.items() if value]
    for dataset in terms.datasets:
        lines += ["", f"{dataset.name}  (held: {dataset.held.value}; key: {shown(dataset.key)})"]
        lines += [f"  {name}: {shown(msgspec.to_builtins(term))}" for name, term in dataset.fields.items()]
    return lines
