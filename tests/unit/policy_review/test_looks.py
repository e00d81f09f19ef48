"""One decision stands for several members only where the rules cannot tell them apart."""

from __future__ import annotations

import msgspec
import pytest
import regorus

from gateway.catalogue import Catalogue
from gateway.policy import load_bundle
from gateway.policy_review.judges import start_engine
from gateway.policy_review.looks import Asking, Look, find_looks
from gateway.policy_review.matrix import matrix
from gateway.policy_review.questions import Questions, Way, World
from tests.unit.policy_review.conftest import COMPANIES, POLICIES, TIME, make_world

CONSUMERS = 'data["exchange"]["decision"]["memorandum"]["consumers"]'
OWNER = 'input["dataset"]["owner"]'
HEAD = "package exchange.decision\n\nmemorandum := data.memoranda[input.memorandum]\n\n"
OTHER_BANK = 'a := "harbour-bank" if input.consumer.id in data.banks'
TIERS = "exchange/decision/tiers.rego"


def looks_of(body: str) -> set[Look] | None:
    found = find_looks({TIERS: HEAD + body})
    return None if found is None else set(found)


@pytest.mark.parametrize(
    ("body", "looks"),
    [
        ('a contains "b" if input.consumer.id in memorandum.consumers', {Look(CONSUMERS, among=True)}),
        ("a if input.consumer.id == input.dataset.owner", {Look(OWNER, among=False)}),
        ("a if input.dataset.owner != input.consumer.id", {Look(OWNER, among=False)}),
        ('a if input["consumer"].id == "harbour-bank"', {Look('"harbour-bank"', among=False)}),
        ("a := [x | x := input.consumer.id in data.b.c]", {Look('data["b"]["c"]', among=True)}),
        ("a if count({1} - object.keys(input.consumer)) == 0", set()),
        ("a if count({1} - object.keys(input)) == 0", set()),
        ("a if data.b[input.consumer.class].c == input.provider.id", set()),
    ],
)
def test_comparisons_with_what_is_the_same_for_all_are_found(body, looks):
    assert looks_of(body) == looks


@pytest.mark.parametrize(
    "body",
    [
        "a := data.members[input.consumer.id]",
        "a := input.consumer.id",
        'a := input["consumer"]["id"]',
        "a := input.consumer",
        "a := input",
        "a := input[data.b]",
        "a := input.consumer[data.b]",
        "a := input.consumer[`id`]",
        'a := object.get(input, "consumer", "")',
        "a := object.get(input.consumer, data.b, input)",
        "a if startswith(input.consumer.id, data.b)",
        "a if input.consumer.id < data.b",
        "a if { some x in data.b; input.consumer.id == x }",
        "a if { some x in data.b; input.consumer.id in x.members }",
        "a if { some x in data.b; input.consumer.id in memorandum[x] }",
        "a if input.consumer.id == data.b[input.consumer.id]",
        "a if input.consumer.id == input.consumer.id",
        "a if input.consumer.id in {data.b, data.c}",
        "a if some input.consumer.id, y in data.b",
        "f(x) := x\n\na if f(input.consumer.id) == 1",
        "f(x) := x\n\na if input.consumer.id == f(1)",
        "f(data) if input.consumer.id in data.b",
        "a[input.consumer.id] := 1",
        # What is compared is not the same for all: it hangs on the id itself, however far away.
        f"{OTHER_BANK}\n\nb if input.consumer.id == a",
        f"{OTHER_BANK}\n\nb := a\n\nc if input.consumer.id == b",
        f"{OTHER_BANK}\n\nb if input.consumer.id == data.exchange.decision.a",
        f"{OTHER_BANK}\n\nb := [x | some x in data.exchange]\n\nc if input.consumer.id in b",
        "f(x) := x if input.consumer.id in data.b\n\nc := f(1)\n\nd if input.consumer.id == c",
    ],
)
def test_rules_that_do_anything_else_with_the_id_are_asked_about_each_member(body):
    assert looks_of(body) is None


@pytest.mark.parametrize(
    ("look", "values", "seen"),
    [
        (Look("", among=True), [["a", "b"]], True),
        (Look("", among=True), [["b"]], False),
        (Look("", among=True), [{"b": "a"}], True),
        (Look("", among=True), [{"a": "b"}], False),
        (Look("", among=True), ["abc"], False),
        (Look("", among=True), [None], False),
        (Look("", among=True), [], False),
        (Look("", among=False), ["a"], True),
        (Look("", among=False), [["a"]], False),
        (Look("", among=False), [], False),
    ],
)
def test_a_look_sees_what_the_rules_would(look, values, seen):
    assert look.sees("a", values) is seen
    rule = f"package t\n\nresult := [1 | input.id {'in' if look.among else '=='} data.c]\n"
    engine = regorus.Engine()
    engine.add_policy("t.rego", rule)
    engine.add_data_json(msgspec.json.encode({"c": values[0]} if values else {}).decode())
    engine.set_input_json('{"id":"a"}')
    assert msgspec.json.decode(engine.eval_rule_as_json("data.t.result")) == ([1] if seen else [])


def evaluations(bundle, world, looks, monkeypatch) -> tuple[int, bytes]:
    """Return how many decisions are evaluated for a question put for each member, and the decisions."""
    asking = Asking(bundle, world, looks)
    count, judge = 0, asking._engine.judge

    def counted(encoded):
        nonlocal count
        count += 1
        return judge(encoded)

    monkeypatch.setattr(asking._engine, "judge", counted)
    decisions = []
    for basis, memorandum in (("", ""), ("credit-reporting-act-14", "registry-harbour-bank")):
        for member in world.members:
            way = Way(member, COMPANIES, "credit-check", "query", basis, memorandum)
            decisions.append(asking.decide(way))
    return count, msgspec.json.encode(decisions)


def test_members_that_cannot_be_told_apart_are_asked_for_once(bundle, catalogue, monkeypatch):
    world = make_world([bundle], catalogue)
    assert list(world.members.values()) == ["bank", "bank", "company"]
    looks = find_looks(bundle.modules)
    assert looks, "the shipped rules compare only"
    once, shared = evaluations(bundle, world, looks, monkeypatch)
    each, own = evaluations(bundle, world, None, monkeypatch)
    # Without a memorandum one for each class; under one the bank that it names is another than the rest.
    assert (once, each) == (2 + 3, 6)
    assert shared == own


def test_shared_decisions_are_those_of_each_member(bundle):
    """Whatever is stated: memoranda of others, scores that belong to one who asks."""
    everything = Catalogue.read(POLICIES / "datasets", list(bundle.data["tiers"]))
    world = World.of([bundle], everything, TIME, ("query",))
    asking = Asking(bundle, world, find_looks(bundle.modules))
    engine, questions = start_engine(bundle), Questions(world)
    stated = [
        (dataset, purpose, basis, name)
        for name, row in bundle.data["memoranda"].items()
        for dataset in [one for one in row["datasets"] if one in world.datasets][:1]
        for purpose, basis in zip(row["purposes"], row["legal_bases"], strict=False)
    ]
    stated += [
        (name, purpose, "", "") for name in world.datasets for purpose in ("public-lookup", "own-score")
    ]
    allowed, told_apart = 0, 0
    for dataset, purpose, basis, memorandum in stated:
        answers = set()
        for member, kind in world.members.items():
            way = Way(member, dataset, purpose, "query", basis, memorandum)
            shared, own = asking.decide(way), engine.judge(questions.encode(way))
            assert shared == msgspec.structs.replace(own, id="")
            allowed += own.allow
            answers.add((kind, msgspec.json.encode(shared)))
        told_apart += len(answers) > len({*world.members.values()})
    assert allowed > 20
    assert told_apart > 10, "members of one class get different answers"


def test_the_matrix_holds_what_rules_say_that_look_a_member_up(bundle, catalogue, policy, edit):
    edit(
        TIERS,
        'tier_proofs contains "tiers.known" if dataset_tier',
        'tier_proofs contains "tiers.known" if {\n\tdataset_tier\n'
        '\tstartswith(input.consumer.id, "harbour")\n}',
    )
    other = load_bundle(policy)
    assert find_looks(other.modules) is None
    world = make_world([other], catalogue)
    engine, questions = start_engine(other), Questions(world)
    cells = matrix(other, world)
    for cell in cells:
        way = Way(cell.member, cell.dataset, cell.purpose, cell.operation, cell.legal_basis, cell.memorandum)
        assert cell.allow == engine.judge(questions.encode(way)).allow
    assert {cell.member for cell in cells if cell.allow} == {"harbour-bank"}


def test_where_what_is_compared_cannot_be_had_each_member_is_asked_for(
    bundle, catalogue, policy, edit, monkeypatch
):
    proof = 'tier_proofs contains "tiers.known" if dataset_tier\n'
    title = "\n# METADATA\n# title: {}\n"
    edit(
        TIERS,
        proof,
        f"{proof}{title.format('One')}both := input.purpose\n{title.format('Other')}both := input.operation\n"
        f"{title.format('Nobody asks for it')}unasked if input.consumer.id in both\n",
    )
    other = load_bundle(policy)
    looks = find_looks(other.modules)
    assert looks is not None
    assert 'data["exchange"]["decision"]["both"]' in {look.compared for look in looks}
    world = make_world([bundle], catalogue)
    count, decisions = evaluations(other, world, looks, monkeypatch)
    _, own = evaluations(other, world, None, monkeypatch)
    assert (count, decisions) == (6, own)
