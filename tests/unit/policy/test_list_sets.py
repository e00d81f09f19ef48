"""List sets: a bundle whose sets would betray what their lists say is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.policy import BundleError, load_bundle

SET = "scrutiny-warning"
LISTS = "members/registry/datasets/"


def change(bundle: Path, *, memoranda: dict | None = None, **sets: dict) -> None:
    """Replace or add list sets and memoranda."""
    for name, rows in (("list_sets", sets), ("memoranda", memoranda or {})):
        path = bundle / "data" / f"{name}.yaml"
        held = yaml.safe_load(path.read_text())
        held[name] |= {key.replace("_", "-"): row for key, row in rows.items()}
        path.write_text(yaml.safe_dump(held))


def shipped(bundle: Path, name: str = SET, chapter: str = "list_sets") -> dict:
    return yaml.safe_load((bundle / "data" / f"{chapter}.yaml").read_text())[chapter][name]


def test_the_shipped_set_asks_for_three_of_five(bundle):
    found = bundle.data["list_sets"][SET]
    assert (len(found["lists"]), found["at_least"]) == (5, 3)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"at_least": 5}, "would name all"),
        ({"at_least": 6}, "would name all"),
        ({"at_least": 0}, "list_sets.yaml"),
        ({"lists": {LISTS + "missing-reports": "registry-lists-inspectorate"}}, "list_sets.yaml"),
        ({"lists": {LISTS + "a": "registry-lists-inspectorate", LISTS + "b": "nothing"}}, "nothing"),
        (
            {
                "lists": {
                    LISTS + "missing-reports": "registry-lists-inspectorate",
                    "members/tax/datasets/tax-evaders": "registry-lists-inspectorate",
                },
                "at_least": 1,
            },
            "not about it",
        ),
        ({"owner": "somebody"}, "list_sets.yaml"),
    ],
)
def test_a_set_is_refused_for(bundle_copy, row, told):
    change(bundle_copy, scrutiny_warning=shipped(bundle_copy) | row)
    with pytest.raises(BundleError, match=told):
        load_bundle(bundle_copy)


def test_sets_that_would_betray_a_list_are_refused(bundle_copy):
    """The same consumer, one list less: where the answers differ, the subject is on that list."""
    row = shipped(bundle_copy)
    fewer = dict(list(row["lists"].items())[1:])
    change(bundle_copy, fewer=row | {"lists": fewer})
    with pytest.raises(BundleError, match="share a list and the consumers"):
        load_bundle(bundle_copy)


def test_sets_of_other_consumers_may_share_a_list(bundle_copy):
    """The control: what the one learns the other does not."""
    row = shipped(bundle_copy)
    memoranda = {}
    for name in ("registry-lists-inspectorate", "tax-lists-inspectorate"):
        memoranda[name.replace("inspectorate", "tax")] = shipped(bundle_copy, name, "memoranda") | {
            "consumers": ["tax"]
        }
    lists = {name: under.replace("inspectorate", "tax") for name, under in row["lists"].items()}
    change(bundle_copy, memoranda=memoranda, other=row | {"lists": lists})
    assert {*load_bundle(bundle_copy).data["list_sets"]} >= {SET, "other"}


def test_sets_without_a_common_list_may_have_the_same_consumer(bundle_copy):
    row = shipped(bundle_copy)
    lists = list(row["lists"].items())
    change(
        bundle_copy,
        scrutiny_warning=row | {"lists": dict(lists[:2]), "at_least": 1},
        other=row | {"lists": dict(lists[2:]), "at_least": 2},
    )
    assert {*load_bundle(bundle_copy).data["list_sets"]} >= {"other"}
