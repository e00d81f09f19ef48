package exchange.decision_test

import data.exchange.decision

test_a_bank_may_check_credit if "purposes.member_class" in decision.purpose_proofs with input as asked

test_a_purpose_must_be_known if {
	denials := decision.denials with input as but({"purpose": "curiosity"})
	"purposes.known" in denials
}

test_a_company_may_not_check_credit if {
	denials := decision.denials with input as but({"consumer": {"class": "company"}})
	"purposes.member_class" in denials
}

test_a_score_never_serves_enforcement if {
	permissive := {"x": {
		"tiers": ["public"],
		"dataset_classes": ["record", "score"],
		"member_classes": ["bank"],
		"operations": ["query"],
		"enforcement": true,
	}}
	denials := decision.denials with input as but({"purpose": "x", "dataset": {"class": "score"}})
		with data.purposes as permissive
	"purposes.score" in denials
}

test_a_record_may_serve_enforcement if {
	"purposes.score" in decision.purpose_proofs with input as but({"purpose": "law-enforcement"})
}
