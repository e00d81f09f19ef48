package exchange.decision_test

import data.exchange.decision

treatments := {name: obligation.treatment | some name, obligation in decision.obligations}

test_each_field_gets_its_treatment if {
	result := treatments with input as asked
	result == {"uscc": "release", "capital": "generalise", "representative_id": "pseudonymise", "phone": "drop"}
}

test_the_method_of_coarsening_is_told if {
	obligations := decision.obligations with input as asked
	obligations.capital.params == {"method": "band:1000000"}
}

test_only_the_fields_named_are_considered if {
	result := treatments with input as but({"fields": ["uscc"]})
	result == {"uscc": "release"}
}

test_the_strictest_treatment_wins if {
	field := {"dataset": {"fields": {"representative_id": {"generalise": "band:10"}}}}
	result := treatments with input as but(field)
	result.representative_id == "pseudonymise"
}

test_a_tier_that_drops_persons_drops_them if {
	strict := object.union(data.tiers, {"limited": {"person_identifiers": "drop"}})
	result := treatments with input as asked with data.tiers as strict
	result.representative_id == "drop"
}

test_a_treatment_that_nobody_knows_drops if {
	odd := object.union(data.tiers, {"limited": {"person_identifiers": "embellish"}})
	result := treatments with input as asked with data.tiers as odd
	result.representative_id == "drop"
}

test_a_field_described_by_halves_is_dropped if {
	halves := {"uscc": {"tier": "public"}, "name": {"tier": "public", "identifier": null, "generalise": null, "mask": null, "link": null}}
	result := treatments with input as object.union(
		object.remove(asked, ["dataset"]),
		{"dataset": object.union(object.remove(asked.dataset, ["fields"]), {"fields": halves})},
	)
	result == {"uscc": "drop", "name": "release"}
}

test_a_field_below_the_tier_granted_goes_out_in_full if {
	result := treatments with input as but({"dataset": {"fields": {"capital": {"tier": "public"}}}})
	result.capital == "release"
}
