package exchange.decision_test

import data.exchange.decision

test_a_mask_is_stricter_than_coarsening if {
	both := {"dataset": {"fields": {"capital": {"mask": {"keep_first": 1, "keep_last": 0}}}}}
	result := treatments with input as but(both)
	result.capital == "mask"
}

test_a_link_that_the_legal_basis_does_not_open_is_dropped if {
	linked := {"dataset": {"fields": {"representative_id": {"link": "company-representative"}}}}
	result := treatments with input as but(linked)
	result.representative_id == "drop"
}

test_a_link_that_the_legal_basis_opens_is_treated_like_any_other_field if {
	basis := object.union(data.legal_bases["credit-reporting-act-14"], {"links": ["company-representative"]})
	linked := {"dataset": {"fields": {"representative_id": {"link": "company-representative"}}}}
	result := treatments with input as but(linked) with data.legal_bases as {"credit-reporting-act-14": basis}
	result.representative_id == "pseudonymise"
}

test_a_hidden_link_that_is_named_is_told_as_such if {
	linked := {"fields": ["phone", "uscc"], "dataset": {"fields": {"phone": {"tier": "public", "link": "kin"}}}}
	denials := decision.denials with input as but(linked)
	"obligations.links" in denials
}
