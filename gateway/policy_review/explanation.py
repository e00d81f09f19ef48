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
                ExplainedDuty(name, show_parameters(params), self._duty_rules(name, speaking))
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
            article = ", ".join(str(row[part]) for part in ("act", "article") if part in row)
            yield Ground(
                rule,
                str(row.get("title", "")),
                article or str(row.get("citation", "")),
                str(row.get("valid_until") or ""),
            )

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
            if not rules:
                rules = [self._by_tier(obligation.treatment, tier, decision.tier)]
            yield ExplainedField(name, show_obligation(obligation), tier, tuple(rules))

    def _by_tier(self, treatment: Treatment, tier: str, granted: str) -> CitedRule:
        """Return what stands for a rule where none speaks of the field by its name."""
        tiers = self._bundle.data["tiers"]
        place = "data/tiers.yaml"
        if treatment is not Treatment.DROP:
            return CitedRule(f"Its tier '{tier}' lies within the tier granted, '{granted}'", place)
        if tier not in tiers:
            return CitedRule(f"{_UNCITED}; its tier is not known", place)
        if tiers[tier]["rank"] > tiers[granted]["rank"]:
            return CitedRule(
                f"Its tier '{tier}' lies above the tier granted, '{granted}'",
                place,
                remedy="Ask under a memorandum that grants its tier.",
            )
        return CitedRule(_UNCITED, place)

    def _duty_rules(self, duty: str, speaking: Mapping[str, Any]) -> tuple[CitedRule, ...]:
        return tuple(
            self._cited(module, rule)
            for module, rule in self._rules
            if rule.name == duty
            or (isinstance(speaking.get(rule.name), list | dict) and duty in speaking[rule.name])
        )

    def _annotation(self, module: Module, rule: Rule) -> Annotation | None:
        return self._bundle.annotations[module.path].get(rule.line)

    def _cited(self, module: Module, rule: Rule) -> CitedRule:
        place = f"{module.path}:{rule.line}"
        annotation = self._annotation(module, rule)
        if annotation is None:
            return CitedRule(rule.name, place)
        custom = annotation.custom
        return CitedRule(annotation.title, place, custom.citation, custom.owner, custom.remedy)


def known_bundle(bundles: Mapping[str, Bundle], digest: str) -> Bundle:
    """Return the bundle with `digest`; raise `PolicyError` that says what to do."""
    try:
        return bundles[digest]
    except KeyError as error:
        raise PolicyError(
            "The policy bundle that decided then is not at hand; name its directory with --bundle.",
            bundle=digest,
        ) from error
