package exchange.decision_test

import data.exchange.decision

test_a_memorandum_between_the_parties_is_usable if decision.memorandum_usable with input as asked

test_a_memorandum_of_another_provider_is_not_usable if {
	denials := decision.denials with input as but({"provider": {"id": "tax"}})
	"memoranda.scope" in denials
}

test_a_memorandum_without_end_holds if {
	endless := {"m": object.union(data.memoranda["registry-harbour-bank"], {"valid_until": null, "before": "9999-12-31T23:59:59Z"})}
	decision.memorandum_usable with input as but({"memorandum": "m", "time": "2099-01-01T00:00:00Z"})
		with data.memoranda as endless
}

test_an_allowance_without_end_has_no_valid_until if {
	endless := {"m": object.union(data.memoranda["registry-harbour-bank"], {"valid_until": null, "before": "9999-12-31T23:59:59Z"})}
	result := decision.result with input as but({"memorandum": "m"}) with data.memoranda as endless
	result.allow == true
	result.valid_until == null
}

test_the_first_end_counts if {
	bases := {"credit-reporting-act-14": object.union(
		data.legal_bases["credit-reporting-act-14"],
		{"valid_until": "2030-01-01T00:00:00Z"},
	)}
	result := decision.result with input as asked with data.legal_bases as bases
	result.valid_until == "2030-01-01T00:00:00Z"
}
