"""Questions to policy: those of the golden cases with a few facts replaced; many are nearly allowed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import msgspec

from gateway.model import Treatment
from gateway.policy import Bundle, PolicyInput
from gateway.policy.golden import GoldenCase

MOMENTS = (
    "2022-06-01T00:00:00Z", "2023-06-01T00:00:00Z", "2026-11-21T12:00:00Z", "2029-06-01T00:00:00Z",
    "2036-12-31T23:59:00Z", "2040-01-01T00:00:00Z",
)  # fmt: skip


class Questions:
    """Makes questions about `bundle` from `cases`; equal random numbers make equal questions."""

    def __init__(self, bundle: Bundle, cases: Sequence[GoldenCase]) -> None:
        self._data = bundle.data
        self._cases = cases
        self._datasets = list(
            {
                case.policy_input.dataset.name: msgspec.to_builtins(case.policy_input.dataset)
                for case in cases
            }.values()
        )

    def near(self, random: Random, changes: int = 2) -> dict[str, Any]:
        """Return the facts of one case with up to `changes` of them replaced."""
        content: dict[str, Any] = copy.deepcopy(msgspec.to_builtins(random.choice(self._cases).policy_input))
        for name in random.sample(sorted(self._replacements(content)), random.randint(0, changes)):
            content[name] = random.choice(self._replacements(content)[name])
        if random.random() < 0.2:
            content["consumer"] = {
                "id": random.choice([*self._data["members"], "nobody"]),
                "class": random.choice([*self._data["member_classes"], "guild"]),
            }
        if random.random() < 0.3:
            self._spoil_dataset(content["dataset"], random)
        self._agree(content, random)
        # The dataset may have changed under them.
        for name in ("fields", "reads", "capabilities"):
            content[name] = sorted(set(content[name]))
        msgspec.convert(content, PolicyInput)
        return content

    def _replacements(self, content: dict[str, Any]) -> dict[str, list[Any]]:
        names = [*content["dataset"]["fields"], "surprise"]
        return {
            "operation": ["query", "stream", "match", "list", "rummage"],
            "time": list(MOMENTS),
            "signed": [True, False],
            "purpose": [*self._data["purposes"], "curiosity", ""],
            "legal_basis": [*self._data["legal_bases"], "", "law-of-the-jungle"],
            "memorandum": [*self._data["memoranda"], "", "handshake"],
            "dataset": copy.deepcopy(self._datasets),
            "document": ["", "Order 1"],
            "subjects": [0, 1, 2, 101],
            "fields": [[], names[:1], names[1:3], names[-2:], names],
            "reads": [[], names[:1], names[1:2], names[-2:-1], names[-1:]],
            "capabilities": [
                content["capabilities"], sorted(Treatment), content["capabilities"][1:],
                [*content["capabilities"], "embellish"],
            ],
        }  # fmt: skip

    def under_contract(self, random: Random) -> dict[str, Any]:
        """Return the facts of an allowed case, of a dataset that needs a contract and has one."""
        allowed = [case for case in self._cases if case.expect.allow]
        content: dict[str, Any] = copy.deepcopy(msgspec.to_builtins(random.choice(allowed).policy_input))
        content["dataset"]["contract"] = "required"
        content["contract"] = self._contract(content, random)
        msgspec.convert(content, PolicyInput)
        return content

    def _agree(self, content: dict[str, Any], random: Random) -> None:
        """Put a dataset under a contract, take it from under one, or only mark it."""
        if content["contract"] is None and random.random() < 0.8:
            return
        content["dataset"]["contract"] = random.choice(["", "required", "required"])
        content["contract"] = None
        if content["dataset"]["contract"] and random.random() < 0.9:
            content["contract"] = self._contract(content, random)
            if random.random() < 0.3:
                name, value = random.choice(
                    [
                        ("contributor", random.choice([*self._data["members"]])),
                        ("purposes", [random.choice([*self._data["purposes"]])]),
                        ("recipients", {"members": [random.choice([*self._data["members"]])], "classes": []}),
                        ("recipients", {"members": [], "classes": [content["consumer"]["class"]]}),
                        ("valid_from", random.choice(MOMENTS)),
                        ("valid_until", random.choice(MOMENTS)),
                    ]
                )
                content["contract"][name] = value

    def _contract(self, content: dict[str, Any], random: Random) -> dict[str, Any]:
        """Return a contract that covers the question, with terms for some of the dataset's fields."""
        names = sorted(content["dataset"]["fields"])
        return {
            "id": "sha256:" + "0" * 64,
            "name": "drawn",
            "version": 1,
            "contributor": content["provider"]["id"],
            "parties": sorted({content["provider"]["id"], content["consumer"]["id"]}),
            "purposes": [content["purpose"]],
            "recipients": {"members": [content["consumer"]["id"]], "classes": []},
            "fields": {
                name: term(content["dataset"]["fields"][name], random)
                for name in random.sample(names, random.randint(0, len(names)))
            },
            "valid_from": "2020-01-01T00:00:00Z",
            "valid_until": "2041-01-01T00:00:00Z",
            "onward_sharing": "forbidden",
        }

    def _spoil_dataset(self, dataset: dict[str, Any], random: Random) -> None:
        field = dataset["fields"][random.choice(sorted(dataset["fields"]))]
        tiers = [*self._data["tier_names"], "cosmic"]
        part, value = random.choice(
            [
                ("tier", random.choice(tiers)),
                ("identifier", random.choice([*self._data["identifiers"], "passport-number", None])),
                ("generalise", random.choice(["year", None])),
                ("mask", random.choice([{"keep_first": 1, "keep_last": 1}, None])),
                ("link", random.choice(["company-representative", "kin", None])),
            ]
        )
        field[part] = value
        part, value = random.choice(
            [
                ("tier", random.choice(tiers)),
                ("class", random.choice(["record", "list", "score", "gossip"])),
                ("owner", random.choice([*self._data["members"]])),
                ("catalogue", random.choice([*self._data["catalogue"], ""])),
                ("cohort", random.choice([0, 3, 50])),
                ("retention", random.choice([None, {"field": "travelled_on", "years": 3}])),
            ]
        )
        dataset[part] = value


def term(field: dict[str, Any], random: Random) -> dict[str, Any]:
    """Return a term for a field, of those that the gateway may tell policy of."""
    lengths = {"keep_first": random.randint(0, 6), "keep_last": random.randint(0, 6)}
    methods = ["year", "month", "decade", "province", "band:10", "band:100", "band:150", "band:1000000"]
    choices: list[dict[str, Any]] = [
        {"treatment": "release", "params": {}},
        {"treatment": "drop", "params": {}},
        {"treatment": "mask", "params": lengths},
        {"treatment": "generalise", "params": {"method": random.choice(methods)}},
    ]
    if field["identifier"] not in {None, "area-code"}:
        choices.append({"treatment": "pseudonymise", "params": {}})
    return random.choice(choices)


def keys(content: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key in `content`."""
    for name, value in content.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from keys(value, (*path, name))


def without(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return `content` without the key at `path`."""
    copied = copy.deepcopy(content)
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copied


def is_weaker(duties: dict[str, Any], than: dict[str, Any]) -> bool:
    """Return whether one of `than` is missing from `duties`, or less strict there."""
    greatest = {"smallest_cohort", "round_counts", "delay"}
    for name, strict in than.items():
        if name not in duties:
            return True
        for parameter, number in strict.items():
            found = duties[name].get(parameter)
            if not isinstance(number, int):
                if found != number:
                    return True
            elif not isinstance(found, int) or (found < number if name in greatest else found > number):
                return True
    return False
