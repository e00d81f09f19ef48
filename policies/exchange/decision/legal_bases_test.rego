package exchange.decision_test

import data.exchange.decision

test_a_legal_basis_of_the_memorandum_carries if "legal_bases.memorandum" in decision.basis_proofs with input as asked

test_the_open_tier_needs_no_legal_basis if {
	result := decision.result with input as but({"memorandum": "", "legal_basis": ""})
	result.allow == true
	result.tier == "public"
}

test_a_legal_basis_stated_without_need_must_hold_all_the_same if {
	denials := decision.denials with input as but({"memorandum": "", "legal_basis": "interim-credit-order-3"})
	"legal_bases.period" in denials
}
