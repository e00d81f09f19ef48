"""The operators' page and the alert rules speak of what is there, and of all of it."""

import re
from pathlib import Path
from typing import get_args

import yaml

from gateway.errors import Reason
from gateway.telemetry.logs import ALLOWED_FIELDS, LogLosses
from gateway.telemetry.metrics import Metrics, Outcome, Step

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/telemetry.md").read_text()
RULES = yaml.safe_load((ROOT / "deploy/prometheus/sluicegate-rules.yml").read_text())["groups"][0]["rules"]


def rows(heading):
    """First and second cell of the table's rows below `heading`."""
    section = PAGE.partition(heading)[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, re.MULTILINE)


def families():
    """Name (as Prometheus shows it) to the labels of every metric of ours."""
    metrics = Metrics()
    metrics.watch_losses(LogLosses())
    metrics.watch_policy_cache(lambda: (0, 0))
    instruments = [value for value in vars(metrics).values() if hasattr(value, "_labelnames")]
    labels = {instrument._name: instrument._labelnames for instrument in instruments}
    return {
        family.name + ("_total" if family.type == "counter" else ""): labels.get(family.name)
        for family in metrics.registry.collect()
        if family.name.startswith("sluicegate_")
    }


def test_every_log_field_is_explained():
    assert {name for name, _ in rows("## Read the log")} == ALLOWED_FIELDS


def test_every_metric_is_explained_with_its_labels():
    explained = {name: tuple(re.findall(r"\w+", labels)) for name, labels in rows("## Read the metrics")}
    there = families()
    assert explained.keys() == there.keys()
    for name, labels in there.items():
        if labels:
            assert explained[name] == labels


def test_the_rules_for_several_workers_are_those_that_hold():
    assert {name: rule.strip() for name, rule in rows("## Several workers")} == Metrics().gauge_rules


def test_every_step_is_explained():
    (explained,) = re.findall(r"\| `sluicegate_step_seconds` .*", PAGE)
    assert all(re.search(rf"\b{step}\b", explained) for step in get_args(Step))


def test_alert_rules_ask_for_metrics_and_labels_that_exist():
    known = set(families()) | {"sluicegate_provider_seconds_bucket"}
    reasons = {reason.value for reason in Reason}
    for rule in RULES:
        asked = set(re.findall(r"\bsluicegate_\w+", rule["expr"]))
        assert asked <= known, rule["alert"]
        assert set(re.findall(r'reason="(\w+)"', rule["expr"])) <= reasons
        assert set(re.findall(r'outcome="(\w+)"', rule["expr"])) <= set(get_args(Outcome))
        assert asked or "up{" in rule["expr"]


def test_each_alert_says_how_urgent_it_is_and_what_to_do():
    headings = set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE))
    assert {rule["alert"] for rule in RULES} == headings
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/telemetry.md#{rule['alert'].lower()}"
