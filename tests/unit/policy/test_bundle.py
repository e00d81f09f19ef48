from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.policy import BundleError, load_bundle, write_opa_directory
from gateway.policy.bundle import digest_bundle
from gateway.policy.schemas import render_schema, schemas

POLICIES = Path(__file__).parents[3] / "policies"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_shipped_bundle_loads(bundle):
    assert bundle.revision >= 1
    assert bundle.data["tier_names"] == ["public", "limited", "government", "restricted"]
    assert bundle.data["bundle"] == {"digest": bundle.digest, "revision": bundle.revision}
    assert all(path.endswith("_test.rego") for path in bundle.tests)
    assert not any(path.endswith("_test.rego") for path in bundle.modules)


def test_the_digest_is_that_of_revision_rules_and_data(bundle):
    data = {name: document for name, document in bundle.data.items() if name != "bundle"}
    assert bundle.digest == digest_bundle(bundle.revision, bundle.modules, data)


def test_a_copy_elsewhere_has_the_same_digest(bundle, bundle_copy):
    assert load_bundle(bundle_copy).digest == bundle.digest


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("bundle.yaml", "revision: 1", "revision: 2"),
        ("data/tiers.yaml", "cacheable: false", "cacheable: true"),
        ("exchange/decision/decision.rego", "default allow := false", "default allow :=  false"),
    ],
)
def test_any_change_that_decides_changes_the_digest(file, old, new, bundle, bundle_copy):
    edit(bundle_copy / file, old, new)
    assert load_bundle(bundle_copy).digest != bundle.digest


def test_a_comment_in_a_data_file_does_not_change_the_digest(bundle, bundle_copy):
    edit(bundle_copy / "data/tiers.yaml", "# Sharing tiers", "# The sharing tiers")
    assert load_bundle(bundle_copy).digest == bundle.digest


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("bundle.yaml", "revision: 1", "revision: 0", "bundle.yaml"),
        ("bundle.yaml", "revision: 1", "revision: 1\nnotes: x", "notes"),
        ("data/tiers.yaml", "signature: false", "signature: maybe", "data/tiers.yaml"),
        ("data/tiers.yaml", "signature: false", "signature: no way", "data/tiers.yaml"),
        ("data/tiers.yaml", "    cacheable: true\n", "", "cacheable"),
        ("data/tiers.yaml", "person_identifiers: pseudonymise", "person_identifiers: publish", "publish"),
        ("data/tiers.yaml", "- name: limited", "- name: public", "'public' is defined twice"),
        ("data/tiers.yaml", "[agency, police, bank, company]", "[agency, police, bank, compny]", "'compny'"),
        ("data/members.yaml", "class: bank", "class: banc", "'banc'"),
        ("data/purposes.yaml", "tiers: [public]", "tiers: [publick]", "'publick'"),
        ("data/purposes.yaml", "member_classes: [bank]", "member_classes: [bonk]", "'bonk'"),
        ("data/purposes.yaml", "operations: [query, stream, match]", "operations: [query, steal]", "steal"),
        ("data/legal_bases.yaml", "purposes: [credit-check]", "purposes: [credit-chuck]", "'credit-chuck'"),
        (
            "data/legal_bases.yaml",
            "valid_until: 2023-12-31",
            "valid_until: 2018-12-31",
            "ends before it begins",
        ),
        ("data/legal_bases.yaml", "valid_until: 2023-12-31", "valid_until: 2023-02-31", "legal_bases.yaml"),
        (
            "data/legal_bases.yaml",
            "valid_until: 2023-12-31",
            "valid_until: 9999-12-31",
            "leave out valid_until",
        ),
        ("data/memoranda.yaml", "provider: registry", "provider: regestry", "'regestry'"),
        ("data/memoranda.yaml", "provider: registry", "provider: inspectorate", "to be a provider"),
        ("data/memoranda.yaml", "consumers: [harbour-bank]", "consumers: [registry]", "to be a consumer"),
        ("data/memoranda.yaml", "tier: limited", "tier: limitless", "'limitless'"),
        ("data/memoranda.yaml", "members/registry/datasets", "members/tax/datasets", "does not hold"),
        (
            "data/memoranda.yaml",
            "[credit-reporting-act-14, interim",
            "[credit-reporting-act-15, interim",
            "act-15",
        ),
        (
            "data/memoranda.yaml",
            "purposes: [credit-check, statistics]",
            "purposes: [licensing]",
            "none of its legal",
        ),
        (
            "data/tiers.yaml",
            "    memorandum: true\n    member_classes: [agency, police]\n",
            "    memorandum: false\n    member_classes: [agency, police]\n",
            "asks for less",
        ),
        ("data/purposes.yaml", "broader: credit-check", "broader: credit-chuck", "'credit-chuck'"),
        ("data/purposes.yaml", "broader: credit-check", "broader: lending-decision", "broader than itself"),
        ("data/purposes.yaml", "broader: credit-check", "broader: statistics", "which includes it, does not"),
        (
            "data/purposes.yaml",
            "broader: credit-check",
            "broader: joint-discipline",
            "both enforce or both not",
        ),
        ("data/purposes.yaml", "{limit_records: 200,", "{limit_recods: 200,", "limit_recods"),
        ("data/purposes.yaml", "{limit_records: 200,", "{limit_records: 0,", "purposes.yaml"),
        ("data/legal_bases.yaml", "valid_until: 2029-05-31", "valid_until: null", "without a sunset"),
        (
            "data/legal_bases.yaml",
            "review_by: 2029-08-31",
            "review_by: 2025-08-31",
            "reviewed before it begins",
        ),
        ("data/legal_bases.yaml", "{review_by: 2029-08-31}", "{}", "review_by"),
        (
            "data/legal_bases.yaml",
            "[members/registry/datasets/companies]",
            "[members/nobody/datasets/companies]",
            "'nobody'",
        ),
        ("data/memoranda.yaml", "valid_until: 2029-05-31", "valid_until: 2029-06-01", "outlives the sunset"),
        ("data/catalogue.yaml", "item C-02", "item C-01", "stands twice"),
        ("data/catalogue.yaml", "class: score", "class: opinion", "opinion"),
        ("data/memoranda.yaml", "title: Company", "title: Tax\n    title: Company", "stands twice"),
        ("data/memoranda.yaml", "registry-harbour-bank:", "Registry Harbour:", "memoranda.yaml"),
        ("data/identifiers.yaml", "person: true", "person: &yes true", None),
        ("data/identifiers.yaml", "person: false", "person: *yes", "aliases"),
        ("data/identifiers.yaml", "identifiers:", "identifiers: [", "not valid YAML"),
        ("data/identifiers.yaml", "  uscc:", "  5:", "a key is not a text"),
        ("capabilities.json", '"builtins"', '"builtin"', "capabilities"),
        (
            "exchange/decision/tiers.rego",
            "package exchange.decision",
            "package exchange decision",
            "exchange/decision/tiers.rego line 5",
        ),
    ],
)
def test_a_spoilt_bundle_is_refused_and_says_why(file, old, new, told, bundle_copy):
    edit(bundle_copy / file, old, new)
    if told is None:
        load_bundle(bundle_copy)
        return
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle_copy)
    assert told in caught.value.message
    assert str(bundle_copy) not in caught.value.message


def test_a_missing_or_surplus_data_file_is_refused(bundle_copy):
    (bundle_copy / "data/tiers.yaml").rename(bundle_copy / "data/layers.yaml")
    with pytest.raises(BundleError, match=r"missing \['tiers'\], not known \['layers'\]"):
        load_bundle(bundle_copy)


def test_a_bundle_without_rules_is_refused(bundle_copy):
    for path in bundle_copy.rglob("*.rego"):
        path.unlink()
    with pytest.raises(BundleError, match="no rules"):
        load_bundle(bundle_copy)


def test_a_rule_among_the_data_is_refused(bundle_copy):
    (bundle_copy / "data/x.rego").write_text("package data\n")
    with pytest.raises(BundleError, match="holds no rules"):
        load_bundle(bundle_copy)


def test_a_directory_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(tmp_path)


def test_a_file_too_large_is_refused(bundle_copy, monkeypatch):
    monkeypatch.setattr("gateway.policy.strict_yaml.MAX_FILE_BYTES", 100)
    with pytest.raises(BundleError, match="larger than 100 bytes"):
        load_bundle(bundle_copy)


def test_the_last_day_counts_and_no_end_is_null(bundle):
    assert bundle.data["legal_bases"]["interim-credit-order-3"]["valid_until"] == "2024-01-01T00:00:00Z"
    assert bundle.data["legal_bases"]["inspection-act-7"]["valid_until"] is None


def test_an_emergency_rule_ends_unreviewed_with_the_day_of_its_review(bundle, bundle_copy):
    ends = {name: basis["valid_until"] for name, basis in bundle.data["legal_bases"].items()}
    assert ends["flood-order-7"] == "2026-10-01T00:00:00Z"
    assert ends["flood-order-4"] == "2029-06-01T00:00:00Z"
    edit(
        bundle_copy / "data/legal_bases.yaml",
        "{review_by: 2026-09-30}",
        "{review_by: 2026-09-30, reviewed_on: 2026-09-01}",
    )
    assert (
        load_bundle(bundle_copy).data["legal_bases"]["flood-order-7"]["valid_until"] == ends["flood-order-4"]
    )


def test_where_a_purpose_is_listed_the_narrower_ones_are_listed_too(bundle):
    assert bundle.data["legal_bases"]["tax-discipline-memorandum-act-4"]["purposes"] == [
        "joint-discipline", "travel-restriction", "procurement-exclusion", "financing-restriction",
    ]  # fmt: skip


def test_an_enforcing_purpose_asks_for_a_document(bundle):
    assert all(row["document"] for row in bundle.data["purposes"].values() if row["enforcement"])
    assert not bundle.data["purposes"]["licensing"]["document"]


def test_the_schemas_beside_the_data_say_what_the_types_say():
    written = {path.stem: path.read_text() for path in (POLICIES / "schemas").glob("*.json")}
    assert written == {name: render_schema(schema) for name, schema in schemas().items()}, (
        "run: python -m gateway.policy.schemas policies/schemas"
    )


def test_an_opa_directory_holds_rules_data_and_probe(bundle, tmp_path):
    write_opa_directory(bundle, tmp_path / "served")
    served = {
        path.relative_to(tmp_path / "served").as_posix()
        for path in (tmp_path / "served").rglob("*")
        if path.is_file()
    }
    assert served == {*bundle.modules, "data.json", ".manifest", "sluicegate/conformance/conformance.rego"}
    assert json.loads((tmp_path / "served/data.json").read_text()) == bundle.data
    with pytest.raises(BundleError, match="not empty"):
        write_opa_directory(bundle, tmp_path / "served")
