package exchange.decision_test

import data.exchange.decision

test_a_released_field_may_be_read if "reads.visible" in decision.field_proofs with input as asked

test_an_identifier_that_comes_back_as_pseudonym_may_be_read if {
	"reads.visible" in decision.field_proofs with input as but({"reads": ["representative_id"]})
}

test_a_field_is_read_whether_it_is_named_or_not if {
	denials := decision.denials with input as but({"fields": ["uscc"], "reads": ["phone"]})
	"reads.visible" in denials
}
