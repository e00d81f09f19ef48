"""The Rego module that the start-up probe asks; it is loaded beside the bundle, into whatever engine decides.

Each answer is about one point on which engines are known to differ or on which the rules lean;
`gateway.policy.conformance` holds the answers expected.
"""

from __future__ import annotations

from typing import Final

PROBE_PATH: Final = "sluicegate/conformance/conformance.rego"
PROBE_DOCUMENT: Final = "sluicegate.conformance.answers"
PROBE_MODULE: Final = """\
package sluicegate.conformance

empty := object.get(input, "empty", "absent")

undefined_rule if input.nowhere.at == "all"

undefined_set contains name if some name in input.nowhere

defaulted_rule if undefined_rule

default defaulted := "default"

defaulted := "value" if defaulted_rule

two_bodies contains 1 if not undefined_rule

two_bodies contains 2 if input.letters[0] == "b"

null_is_no_string if not null_is_string

null_is_string if is_string(input.nothing)

numbers[name] := count(values) if some name, values in {"a": [1, 1], "b": {1, 1}}

answers := {
	"negated_undefined": [1 | not undefined_rule],
	"iterated_undefined": count(undefined_set),
	"default": defaulted,
	"bodies_add_up": sort(two_bodies),
	"missing_key": empty,
	"null_key": object.get(input, "nothing", "absent"),
	"null_is_no_string": null_is_no_string,
	"sorted_by_code_point": sort(input.letters),
	"least": min(input.letters),
	"most": max({2, 10}),
	"instants_compare_as_text": ["2026-11-21T12:00:00Z" < input.instant, input.instant < input.instant],
	"difference": sort({"a", "b"} - {"b", "c"}),
	"difference_binds_before_intersection": sort({"a", "b"} & ({"b", "c"} - {"c"})),
	"union": sort({"a"} | {"b"}),
	"keys": sort(object.keys({"a": 1, "b": null})),
	"objects": numbers,
	"whole_numbers": 9007199254740993 - 1,
	"empty_collections": [count(set()), count({}), count([])],
	"membership": [name | some name in ["a", "z"]; name in input.letters],
	"concatenated": concat(".", ["tiers", "limited"]),
}
"""
PROBE_INPUT: Final = b'{"letters":["b","a","B","\xc3\xa9"],"nothing":null,"instant":"2027-01-01T00:00:00Z"}'
