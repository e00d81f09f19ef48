"""Acts on a contract as a whole: all its versions, of which one may follow or answer another. Pure.

1. The versions of a contract form one line: each new one names the newest as its predecessor.
2. A proposed version is countered, never just followed; whoever is late is told so.
3. A later version may add parties but leave none out, and has the same contributor: nobody's contract is
   changed without its signature.
4. A version comes into force in the place of the one before. A suspension by the operator is not got rid of
   in this way; one by a party is, as that party signs the new terms.

Each function takes the history and returns the changes, in the order in which the log tells them; what comes
into force is told first, so that a crash in between leaves no contract out of force by mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import msgspec

from gateway.contracts import life_cycle
from gateway.contracts.errors import ContractError, ContractOrderError, unknown_contract
from gateway.contracts.life_cycle import OPERATOR, Act, Standing
from gateway.contracts.signing import SignedTerms, require_same
from gateway.contracts.version import Change, History, Version
from gateway.errors import Reason
from gateway.model import ContractState, EntryKind, Terms

Move = Callable[[Version], Standing]


def propose(history: History, signed: SignedTerms, now: datetime) -> list[Change]:
    """Return the changes that proposing `signed` makes."""
    version = _first_signed(signed, now)
    _require_next(history, version)
    if history and history[-1].standing.state is ContractState.PROPOSED:
        raise ContractOrderError(
            "The version before is still proposed: sign it, reject it, or answer it with "
            "`gateway contract counter`.",
            state=history[-1].standing.state.value,
            act=Act.PROPOSE.value,
        )
    return [Change(EntryKind.CONTRACT_PROPOSED, version, signed.signature.member)]


def counter(history: History, signed: SignedTerms, now: datetime) -> list[Change]:
    """Return the changes that answering the newest version with `signed` makes."""
    version, actor = _first_signed(signed, now), signed.signature.member
    _require_next(history, version)
    if not history:
        raise unknown_contract()
    answered = history[-1]
    countered = answered.at(life_cycle.counter(answered.standing, answered.terms, actor, now))
    return [
        Change(EntryKind.CONTRACT_PROPOSED, version, actor, detail={"answers": answered.id}),
        Change(EntryKind.CONTRACT_COUNTERED, countered, actor, answered, {"answer": version.id}),
    ]


def sign(history: History, signed: SignedTerms, now: datetime) -> list[Change]:
    """Return the changes that a party's signature makes; with the last one the version comes into force."""
    actor = signed.signature.member
    version = find(history, signed.terms.version)
    require_same(version, signed)
    standing = life_cycle.sign(version.standing, version.terms, actor, now)
    after = msgspec.structs.replace(
        version, standing=standing, signatures=(*version.signatures, signed.signature)
    )
    if standing.state is not ContractState.ACTIVE:
        return [Change(EntryKind.CONTRACT_SIGNED, after, actor, version)]
    former = [other for other in history if is_running(other)]
    if any(OPERATOR in other.standing.held_by for other in former):
        raise ContractError(
            "The version in force is suspended by the gateway's operator; no other takes its place until "
            "that is taken back.",
            reason=Reason.CONTRACT_HELD,
        )
    activated = Change(EntryKind.CONTRACT_ACTIVATED, after, actor, version)
    if former:
        activated = replace(activated, detail={"supersedes": former[-1].id})
    return [activated, *(_superseded(other, after, actor, now) for other in former)]


def suspend(history: History, number: int, actor: str, reason: str, now: datetime) -> list[Change]:
    """Return the change that a suspension makes."""
    return _change(
        history,
        number,
        actor,
        EntryKind.CONTRACT_SUSPENDED,
        lambda version: life_cycle.suspend(version.standing, version.terms, actor, reason, now),
    )


def resume(history: History, number: int, actor: str, now: datetime) -> list[Change]:
    """Return the change that taking back a suspension makes."""
    return _change(
        history,
        number,
        actor,
        EntryKind.CONTRACT_RESUMED,
        lambda version: life_cycle.resume(version.standing, version.terms, actor, now),
    )


def terminate(history: History, number: int, actor: str, reason: str, now: datetime) -> list[Change]:
    """Return the change that a termination makes."""
    return _change(
        history,
        number,
        actor,
        EntryKind.CONTRACT_TERMINATED,
        lambda version: life_cycle.terminate(version.standing, version.terms, actor, reason, now),
    )


def settle(history: History, now: datetime) -> list[Change]:
    """Return the changes that are due by themselves: what is over expires, what has a successor makes way."""
    changes: list[Change] = []
    running = [version for version in history if is_running(version)]
    for version in history:
        standing = version.standing
        if standing.state not in life_cycle.ENDED and life_cycle.is_over(version.terms, now):
            over = version.at(life_cycle.expire(standing, version.terms, now))
            changes.append(Change(EntryKind.CONTRACT_EXPIRED, over, "", version))
        elif version in running[:-1]:
            changes.append(_superseded(version, running[-1], "", now))
    return changes


def find(history: History, number: int) -> Version:
    """Return the version with this number; raise `ContractError`."""
    for version in history:
        if version.terms.version == number:
            return version
    raise unknown_contract()


def is_running(version: Version) -> bool:
    """Whether the version has come into force and has not ended."""
    return version.standing.state in {ContractState.ACTIVE, ContractState.SUSPENDED}


def _change(history: History, number: int, actor: str, kind: EntryKind, move: Move) -> list[Change]:
    version = find(history, number)
    if actor != OPERATOR and actor not in version.members:
        raise unknown_contract()
    return [Change(kind, version.at(move(version)), actor, version)]


def _superseded(version: Version, successor: Version, actor: str, now: datetime) -> Change:
    after = version.at(life_cycle.supersede(version.standing, now))
    return Change(EntryKind.CONTRACT_SUPERSEDED, after, actor, version, {"successor": successor.id})


def _first_signed(signed: SignedTerms, now: datetime) -> Version:
    return Version(
        payload=signed.payload,
        terms=signed.terms,
        signatures=(signed.signature,),
        standing=life_cycle.propose(signed.terms, signed.signature.member, now),
    )


def _require_next(history: History, version: Version) -> None:
    """Raise `ContractError` unless the terms follow the newest version, and leave nobody out."""
    terms = version.terms
    if not history:
        if terms.predecessor is not None:
            raise _outdated("It follows a version that is not there.")
        return
    newest = history[-1]
    if newest.members.isdisjoint({signature.member for signature in version.signatures}):
        raise ContractError(
            "The name of this contract is taken; choose another.", reason=Reason.CONTRACT_OUTDATED
        )
    if any(version.id == other.id for other in history):
        raise ContractError(
            "These terms were proposed before; sign them, or change them.",
            reason=Reason.CONTRACT_SIGNED_BEFORE,
        )
    if terms.version != newest.terms.version + 1 or terms.predecessor != newest.id:
        raise _outdated(f"The newest version is {newest.terms.version}.")
    _require_same_sides(newest.terms, terms)


def _require_same_sides(before: Terms, after: Terms) -> None:
    left_out = {party.member for party in before.parties} - {party.member for party in after.parties}
    if left_out or before.contributor != after.contributor:
        raise ContractError(
            "A new version has the same contributor and leaves no party out; end this contract and propose "
            "another one instead."
        )


def _outdated(what: str) -> ContractError:
    return ContractError(
        f"{what} Each version names the newest as its predecessor; look at that, and propose anew.",
        reason=Reason.CONTRACT_OUTDATED,
    )
