package exchange.decision_test

import data.exchange.decision

agreement := {
	"id": "sha256:00",
	"name": "registry-companies",
	"version": 1,
	"contributor": "registry",
	"parties": ["harbour-bank", "registry"],
	"purposes": ["credit-check"],
	"recipients": {"members": ["harbour-bank"], "classes": []},
	"fields": {},
	"valid_from": "2026-01-01T00:00:00Z",
	"valid_until": "2027-01-01T00:00:00Z",
	"onward_sharing": "forbidden",
}

under(change) := but({"dataset": {"contract": "required"}, "contract": object.union(agreement, change)})

test_under_a_contract_the_same_is_allowed_and_its_end_counts if {
	result := decision.result with input as under({})
	result.allow == true
	result.valid_until == "2027-01-01T00:00:00Z"
	"contracts.registry-companies" in result.rule_ids
}

test_without_terms_for_fields_the_tier_decides if {
	without := treatments with input as asked
	with_terms := treatments with input as under({})
	with_terms == without
}

test_a_dataset_that_needs_a_contract_is_not_given_without if {
	denials := decision.denials with input as but({"dataset": {"contract": "required"}})
	denials == {"contracts.stated"}
}

test_a_contract_narrows_a_dataset_that_is_not_marked_all_the_same if {
	denials := decision.denials with input as object.union(under({"purposes": ["licensing"]}), {"dataset": {"contract": ""}})
	denials == {"contracts.purpose"}
}

test_a_mark_that_nobody_knows_denies if {
	denials := decision.denials with input as but({"dataset": {"contract": "perhaps"}})
	denials == {"contracts.stated"}
}

test_each_part_of_a_contract_is_needed if {
	lacking := {part | some part, _ in agreement; not stated_without(part)}
	lacking == object.keys(agreement)
}

stated_without(part) if {
	whole := under({})
	cut := object.union(object.remove(whole, ["contract"]), {"contract": object.remove(whole.contract, [part])})
	"contracts.stated" in decision.contract_proofs with input as cut
}

test_a_class_may_receive if {
	proofs := decision.contract_proofs with input as under({"recipients": {"members": [], "classes": ["bank"]}})
	"contracts.recipient" in proofs
}

test_who_is_not_named_does_not if {
	denials := decision.denials with input as under({"recipients": {"members": ["tax"], "classes": ["agency"]}})
	denials == {"contracts.recipient"}
}

test_a_contract_does_not_release_what_the_tier_hides if {
	released := {name: {"treatment": "release", "params": {}} | some name, _ in asked.dataset.fields}
	result := treatments with input as under({"fields": released})
	without := treatments with input as asked
	result == without
}

test_a_term_that_nobody_understands_drops if {
	result := treatments with input as under({"fields": {"uscc": {"treatment": "embellish", "params": {}}, "capital": {"params": {}}}})
	result.uscc == "drop"
	result.capital == "drop"
}

test_a_pseudonym_stays_one_under_milder_terms if {
	result := treatments with input as under({"fields": {"representative_id": {"treatment": "mask", "params": {"keep_first": 6, "keep_last": 0}}}})
	result.representative_id == "pseudonymise"
}

test_what_is_no_identifier_has_no_pseudonym if {
	result := treatments with input as under({"fields": {"capital": {"treatment": "pseudonymise", "params": {}}}})
	result.capital == "drop"
}

test_a_mask_without_lengths_drops if {
	result := treatments with input as under({"fields": {"uscc": {"treatment": "mask", "params": {"keep_first": 6}}}})
	result.uscc == "drop"
}

test_dates_are_coarsened_as_the_coarser_says if {
	decision.coarser("month", "year") == "year"
	decision.coarser("decade", "year") == "decade"
	decision.coarser("month", "month") == "month"
}

test_bands_are_compared_where_one_consists_of_the_other if {
	decision.coarser("band:10", "band:100") == "band:100"
	decision.coarser("band:100", "band:10") == "band:100"
	decision.coarser("band:10", "band:10") == "band:10"
	decision.coarser("province", "province") == "province"
	not comparable("band:10", "band:15")
	not comparable("year", "band:10")
	not comparable("province", "year")
}

comparable(one, other) if decision.coarser(one, other)

test_of_two_masks_nothing_is_kept_that_one_of_them_hides if {
	decision.joint_mask({"keep_first": 3, "keep_last": 1}, {"keep_first": 1, "keep_last": 4}) == {
		"keep_first": 1,
		"keep_last": 1,
		"shortest": 10,
	}
}
