"""Comparing members and files with what the audit log says of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway import __version__
from gateway.audit.errors import LogUnavailableError
from gateway.clock import parse_rfc3339
from gateway.config import GatewayConfig
from gateway.contracts.stores import open_contract_store
from gateway.contracts.version import Version
from gateway.deployment import export_trust
from gateway.deployment.policy import bundle_in_force, policy_place
from gateway.doctor.finding import Finding, State
from gateway.evidence.keys import SigningKey
from gateway.members import open_member_store
from gateway.model import ContractState, EntryKind, MemberState
from gateway.recorded.contracts import RecordedContracts, told_contract
from gateway.recorded.deployment import PartChange, changes_between, observe_deployment
from gateway.recorded.entries import RecordedEntries
from gateway.recorded.members import Contradiction, MemberContradiction, RecordedMembers, told
from gateway.recorded.starts import last_state, node_name

_LOOKED_BACK: Final = timedelta(days=7)
_CRASHES_LOOKED_AT: Final = 50
_POLICY_WARNING: Final = timedelta(days=7)

_WORDS: Final = {
    "policy": "the policy",
    "catalogue": "the dataset descriptions",
    "configuration": "the configuration",
    "authorities": "the members' authority",
    "signing_key": "the gateway's signing key",
    "keyring": "the keyring",
}


def examine_members(config: GatewayConfig, entries: RecordedEntries) -> Iterator[Finding]:
    """Compare every member of the store with the last entry about it."""
    with closing(open_member_store(config.members.database)) as store:
        members = store.members()[1]
    found = RecordedMembers(entries).contradictions(members)
    for contradiction in found:
        yield Finding("members", State.FAIL, told(contradiction), _advice(contradiction))
    if not found:
        suspended = sum(member.state is MemberState.SUSPENDED for member in members)
        yield Finding("members", State.OK, f"{len(members)}, {suspended} of them suspended, all as recorded")


def _advice(contradiction: MemberContradiction) -> str:
    if contradiction.what is Contradiction.MISSING:
        return "Restore the member store from its newest copy; nobody is served under this name meanwhile."
    return (
        "It is not served. Unless you know why, somebody has written to the member store: restore it. If the "
        f"store is right, run `gateway member confirm {contradiction.member} --reason …`."
    )


def examine_contracts(config: GatewayConfig, entries: RecordedEntries) -> Iterator[Finding]:
    """Compare every version of every contract with the last entry about it."""
    place = config.contracts_place
    versions: list[Version] = []
    if not isinstance(place, Path) or place.exists():
        with closing(open_contract_store(place)) as store:
            versions = store.versions()[1]
    found = RecordedContracts(entries).contradictions(versions)
    for contradiction in found:
        if contradiction.is_proposal:
            yield Finding("contracts", State.WARN, told_contract(contradiction), "It may be proposed anew.")
        else:
            yield Finding("contracts", State.FAIL, told_contract(contradiction), _ADVICE_OF_CONTRACT)
    if not found:
        active = sum(version.standing.state is ContractState.ACTIVE for version in versions)
        yield Finding("contracts", State.OK, f"{len(versions)}, {active} of them active, all as recorded")


_ADVICE_OF_CONTRACT: Final = (
    "Nothing is served under it. After a crash a running gateway puts it right within seconds. If it stays, "
    "somebody has written to the contract store: restore it from its newest copy."
)


def examine_changes(config: GatewayConfig, entries: RecordedEntries) -> Iterator[Finding]:
    """Compare the files that decide with what the gateway was last started with."""
    last = last_state(entries, node_name(config))
    if last is None:
        yield Finding("changes", State.OK, "the gateway has not been started with this log yet")
        return
    started, before = last
    bundle = bundle_in_force(config)
    signing_key = SigningKey.load(config.keys.signing)
    now = observe_deployment(config, bundle.digest, signing_key.key_id)
    changes = changes_between(before, now)
    rotated = {
        item.entry.detail.get("keyring")
        for item in entries.newest(EntryKind.KEYRING_ROTATED, _CRASHES_LOOKED_AT)
        if item.entry.time > started.entry.time
    }
    if config.policy.activation is not None:
        # Verified against the log and its signers: what was activated since the start is no secret change.
        changes = [change for change in changes if change.part != "policy"]
    for change in changes:
        if change.part == "keyring" and change.after in rotated:
            yield Finding(
                "changes",
                State.WARN,
                "the keyring was rotated, and the gateway still uses the old one",
                "Restart the gateway.",
            )
            continue
        yield Finding("changes", State.FAIL, _sentence(change, started.name), _ADVICE_OF_CHANGE)
    if not changes:
        yield Finding("changes", State.OK, f"none since the last start ({started.name})")


_ADVICE_OF_CHANGE: Final = (
    "If you have changed it, restart the gateway, and the log tells of it. If not, somebody else has: put "
    "the right files back, and find out who could write there."
)


def _sentence(change: PartChange, entry: str) -> str:
    settings = f" ({', '.join(change.settings)})" if change.settings else ""
    verb = "are" if change.part == "catalogue" else "is"
    return f"{_WORDS[change.part]}{settings} {verb} not what the gateway was last started with ({entry})"


def examine_policy(config: GatewayConfig, now: datetime) -> Iterator[Finding]:
    """Tell who puts policies into force, and look whether the one that is will soon need confirming."""
    if config.policy.activation is None:
        yield Finding(
            "policy",
            State.OK,
            "the policy directory as it is: the operator alone puts policies into force (two people with "
            "[policy.activation])",
        )
        return
    with policy_place(config) as place:
        candidate = place.verified()
    statement, ends = candidate.approval.statement, candidate.standing.ends
    told = f"revision {statement.revision}, approved by {' and '.join(candidate.approval.persons)}"
    if now >= ends:
        yield Finding(
            "policy", State.FAIL, f"{told}, stale since {ends:%Y-%m-%d %H:%M} UTC", _ADVICE_OF_POLICY
        )
    elif ends - now < _POLICY_WARNING:
        yield Finding(
            "policy", State.WARN, f"{told}, stale from {ends:%Y-%m-%d %H:%M} UTC on", _ADVICE_OF_POLICY
        )
    else:
        yield Finding("policy", State.OK, f"{told}, in force until {ends:%Y-%m-%d}")


_ADVICE_OF_POLICY: Final = (
    "When it is stale, everything is denied. Have it confirmed by two people (`gateway policy sign --action "
    "confirm`), or activate another."
)


def examine_starts(config: GatewayConfig, entries: RecordedEntries, now: datetime) -> Iterator[Finding]:
    """Look for processes that have died lately, jumps of the clock, and another version at work."""
    for kind, name, words, advice in (
        (EntryKind.GATEWAY_CRASHED, "crashes", "process died", "Look at the operators' log of that time."),
        (EntryKind.CLOCK_JUMPED, "clock jumps", "jump of the clock", "Look after the clock's source."),
    ):
        lately = [
            item
            for item in entries.newest(kind, _CRASHES_LOOKED_AT)
            if now - parse_rfc3339(item.entry.time) < _LOOKED_BACK
        ]
        if lately:
            yield Finding(
                name,
                State.WARN,
                f"{len(lately)} times: {words}, in the last 7 days, {lately[0].name}",
                advice,
            )
        else:
            yield Finding(name, State.OK, "none in the last 7 days")
    last = last_state(entries, node_name(config))
    running = last[0].entry.detail.get("version", "") if last else ""
    if running and running != __version__:
        yield Finding(
            "version",
            State.WARN,
            f"this is {__version__}, and the gateway was last started with {running}",
            "Restart the gateway with the installed version.",
        )
    else:
        yield Finding("version", State.OK, __version__)


def examine_trust(config: GatewayConfig, path: Path) -> Iterator[Finding]:
    """Compare the trust file beside the configuration with members and keys."""
    try:
        current = export_trust(config).to_json()
    except LogUnavailableError as error:
        yield Finding("trust file", State.FAIL, error.message)
        return
    if not path.exists():
        yield Finding(
            "trust file", State.WARN, f"{path} is missing", f"Run `gateway keys trust --out {path}`."
        )
    elif path.read_bytes() != current:
        yield Finding(
            "trust file",
            State.WARN,
            f"{path} is not that of the members and keys as they are",
            f"Run `gateway keys trust --out {path}`, and hand it out anew.",
        )
    else:
        yield Finding("trust file", State.OK, "as members and keys are")
