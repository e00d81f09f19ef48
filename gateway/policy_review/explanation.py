"""Why one decision is as it is: reasons, grounds, fields and duties, each with the rule and its citation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from gateway.model import Decision, Treatment
from gateway.policy.annotations import Annotation
from gateway.policy.bundle import Bundle
from gateway.policy.comparison import show_obligation, show_parameters
from gateway.policy.dialect import CONDITIONS, ENTRY_PACKAGE, PROOFS_SUFFIX, proven_condition
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.errors import PolicyError
from gateway.policy.syntax import Module, Rule, parse_modules

_PACKAGE: Final = ".".join(ENTRY_PACKAGE)
_UNCITED: Final = "Whatever no rule speaks of is dropped"


class CitedRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule as its METADATA tells of it."""

    title: str
    place: str
    """`path:line`."""
    citation: str = ""
    owner: str = ""
    remedy: str = ""


class ExplainedReason(msgspec.Struct, frozen=True):
    """One lack that denies."""

    reason: str
    condition: str
    rules: tuple[CitedRule, ...]
    """Each of the proofs that would have met the condition; one would do."""


class Ground(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something in the data of the bundle that carries a release."""

    rule: str
    title: str
    citation: str = ""
    """Act and article, or the citation of a memorandum."""
    valid_until: str = ""


class ExplainedField(msgspec.Struct, frozen=True):
    """What becomes of a field, and by which rules."""

    field: str
    treatment: str
    field_tier: str
    rules: tuple[CitedRule, ...]


class ExplainedDuty(msgspec.Struct, frozen=True):
    """What binds the exchange, and by which rules."""

    duty: str
    params: str
    rules: tuple[CitedRule, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, explained."""

    decision: str
    allow: bool
    tier: str
    bundle: str
    revision: int
    valid_until: str | None
    reasons: tuple[ExplainedReason, ...]
    grounds: tuple[Ground, ...]
    fields: tuple[ExplainedField, ...]
    duties: tuple[ExplainedDuty, ...]


class Explainer:
    """Explains decisions of one bundle. `engine` is started, on this thread."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self._bundle = engine.bundle
        own = [module for module in parse_modules(engine.bundle.modules) if module.package == ENTRY_PACKAGE]
        self._rules = [(module, rule) for module in own for rule in module.rules]

    async def explain(self, encoded: bytes) -> Explanation:
        """Return the decision on the canonical input `encoded`, explained; raise `PolicyError`."""
        decision = self._engine.judge(encoded)
        facts: dict[str, Any] = msgspec.json.decode(encoded)
        speaking = await self._speaking(encoded) if decision.allow else {}
        return Explanation(
            decision=decision.id,
            allow=decision.allow,
            tier=decision.tier,
            bundle=decision.bundle_digest,
            revision=self._bundle.revision,
            valid_until=decision.valid_until,
            reasons=await self._reasons(decision),
            grounds=tuple(self._grounds(decision)),
            fields=tuple(self._fields(decision, facts, speaking)),
            duties=tuple(
                ExplainedDuty(name, show_parameters(params), tuple(self._burdens(name, decision, facts)))
                for name, params in sorted(decision.duties.items())
            ),
        )

    async def _reasons(self, decision: Decision) -> tuple[ExplainedReason, ...]:
        if decision.allow:
            return ()
        answer = await self._engine.evaluate(f"{_PACKAGE}.{CONDITIONS}", b"{}")
        table: dict[str, dict[str, Any]] = msgspec.json.decode(answer)
        return tuple(
            ExplainedReason(table[condition]["reason"], condition, self._proofs(condition))
            for condition in decision.rule_ids
            if condition in table
        )

    def _proofs(self, condition: str) -> tuple[CitedRule, ...]:
        return tuple(
            self._cited(module, rule)
            for module, rule in self._rules
            if rule.name.endswith(PROOFS_SUFFIX) and proven_condition(rule) == condition
        )

    def _grounds(self, decision: Decision) -> Iterator[Ground]:
        if not decision.allow:
            return
        for rule in decision.rule_ids:
            chapter, _, name = rule.partition(".")
            rows = self._bundle.data.get(chapter)
            row: Mapping[str, Any] = rows.get(name, {}) if isinstance(rows, Mapping) else {}
            yield Ground(rule, str(row.get("title", "")), _citation(row), str(row.get("valid_until") or ""))

    async def _speaking(self, encoded: bytes) -> dict[str, Any]:
        """Return the value of each cited rule that is no proof, by its name."""
        values: dict[str, Any] = {}
        for module, rule in self._rules:
            annotation = self._annotation(module, rule)
            if (
                rule.name in values
                or rule.is_function
                or annotation is None
                or not annotation.custom.citation
            ):
                continue
            if rule.name.endswith(PROOFS_SUFFIX):
                continue
            try:
                answer = await self._engine.evaluate(f"{_PACKAGE}.{rule.name}", encoded)
            except PolicyError:
                # Undefined on this input: it does not speak.
                continue
            values[rule.name] = msgspec.json.decode(answer)
        return values

    def _fields(
        self, decision: Decision, facts: Mapping[str, Any], speaking: Mapping[str, Any]
    ) -> Iterator[ExplainedField]:
        for name, obligation in sorted(decision.obligations.items()):
            tier = str(facts["dataset"]["fields"].get(name, {}).get("tier", ""))
            rules = [
                self._cited(module, rule)
                for module, rule in self._rules
                if isinstance(speaking.get(rule.name), list) and name in speaking[rule.name]
            ]
            yield ExplainedField(
                name,
                show_obligation(obligation),
                tier,
                tuple(rules) or (self._by_data(name, obligation.treatment, decision.tier, facts),),
            )

    def _by_data(self, name: str, treatment: Treatment, granted: str, facts: Mapping[str, Any]) -> CitedRule:
        """Return the row of the data that decides, where no rule speaks of the field by its name."""
        field: Mapping[str, Any] = facts["dataset"]["fields"].get(name, {})
        tier, tiers = field.get("tier", ""), self._bundle.data["tiers"]
        kind = self._bundle.data["identifiers"].get(field.get("identifier"), {})
        of_tier = "data/tiers.yaml"
        if treatment in {Treatment.GENERALISE, Treatment.MASK}:
            consumer = facts["consumer"]["class"]
            title = (
                f"Members of the class '{consumer}' see no field of the tier granted, '{granted}', exactly"
            )
            return CitedRule(title, "data/member_classes.yaml")
        if kind.get("person") and tiers.get(tier, {}).get("rank", len(tiers)) <= tiers[granted]["rank"]:
            wanted = tiers[granted]["person_identifiers"]
            return CitedRule(
                f"The tier granted, '{granted}', says of identifiers of persons: {wanted}", of_tier
            )
        if treatment is not Treatment.DROP:
            return CitedRule(f"Its tier '{tier}' lies within the tier granted, '{granted}'", of_tier)
        if tier in tiers and tiers[tier]["rank"] > tiers[granted]["rank"]:
            title = f"Its tier '{tier}' lies above the tier granted, '{granted}'"
            return CitedRule(title, of_tier, remedy="Ask under a memorandum that grants its tier.")
        return CitedRule(_UNCITED, of_tier)

    def _burdens(self, duty: str, decision: Decision, facts: Mapping[str, Any]) -> Iterator[CitedRule]:
        """Yield each row of the data that lays the duty down; the strictest of them holds."""
        dataset = facts["dataset"]
        for chapter, name in (
            ("member_classes", facts["consumer"]["class"]),
            ("tiers", decision.tier),
            ("purposes", facts["purpose"]),
            ("legal_bases", facts["legal_basis"]),
            ("memoranda", facts["memorandum"]),
            ("catalogue", dataset.get("catalogue", "")),
        ):
            row: Mapping[str, Any] = self._bundle.data.get(chapter, {}).get(name, {})
            if duty in row.get("duties", {}):
                yield CitedRule(f"{chapter}.{name}: {row['title']}", f"data/{chapter}.yaml", _citation(row))
        if (duty == "retention" and dataset.get("retention")) or (
            duty == "smallest_cohort" and dataset.get("cohort")
        ):
            yield CitedRule(f"The description of {dataset['name']}", "the catalogue", dataset["catalogue"])

    def _annotation(self, module: Module, rule: Rule) -> Annotation | None:
        return self._bundle.annotations[module.path].get(rule.line)

    def _cited(self, module: Module, rule: Rule) -> CitedRule:
        place = f"{module.path}:{rule.line}"
        annotation = self._annotation(module, rule)
        if annotation is None:
            return CitedRule(rule.name, place)
        custom = annotation.custom
        return CitedRule(annotation.title, place, custom.citation, custom.owner, custom.remedy)


def _citation(row: Mapping[str, Any]) -> str:
    article = ", ".join(str(row[part]) for part in ("act", "article") if part in row)
    return article or str(row.get("citation", ""))


def known_bundle(bundles: Mapping[str, Bundle], digest: str) -> Bundle:
    """Return the bundle with `digest`; raise `PolicyError` that says what to do."""
    try:
        return bundles[digest]
    except KeyError as error:
        raise PolicyError(
            "The policy bundle that decided then is not at hand; name it with --bundle.",
            bundle=digest,
        ) from error
