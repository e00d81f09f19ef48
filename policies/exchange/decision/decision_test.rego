# The question that the tests of every chapter start from: a bank that checks credit under its memorandum.
package exchange.decision_test

import data.exchange.decision

asked := {
	"operation": "query",
	"time": "2026-11-21T12:00:00Z",
	"signed": true,
	"consumer": {"id": "harbour-bank", "class": "bank"},
	"provider": {"id": "registry", "class": "agency"},
	"dataset": {
		"name": "members/registry/datasets/companies",
		"tier": "public",
		"class": "record",
		"owner": "registry",
		"catalogue": "National catalogue of public credit information, item C-01",
		"retention": null,
		"cohort": 0,
		"contract": "",
		"fields": {
			"uscc": {"tier": "public", "identifier": "uscc", "generalise": null, "mask": null, "link": null},
			"capital": {"tier": "limited", "identifier": null, "generalise": "band:1000000", "mask": null, "link": null},
			"representative_id": {"tier": "limited", "identifier": "national-id", "generalise": null, "mask": null, "link": null},
			"phone": {"tier": "government", "identifier": null, "generalise": null, "mask": null, "link": null},
		},
	},
	"purpose": "credit-check",
	"legal_basis": "credit-reporting-act-14",
	"memorandum": "registry-harbour-bank",
	"fields": [],
	"reads": ["uscc"],
	"document": "",
	"subjects": 1,
	"contract": null,
	"capabilities": ["drop", "generalise", "mask", "pseudonymise", "release"],
}

but(change) := object.union(asked, change)

test_what_is_proven_is_allowed if {
	result := decision.result with input as asked
	result.allow == true
	result.tier == "limited"
	result.reasons == []
	result.valid_until == "2037-01-01T00:00:00Z"
}

test_the_grounds_are_told if {
	result := decision.result with input as asked
	result.rule_ids == [
		"legal_bases.credit-reporting-act-14",
		"memoranda.registry-harbour-bank",
		"purposes.credit-check",
		"tiers.limited",
	]
}

test_the_bundle_is_told if {
	result := decision.result with input as asked
	result.bundle == data.bundle.digest
}

test_without_facts_everything_is_denied if {
	result := decision.result with input as {}
	result.allow == false
	result.obligations == {}
	result.valid_until == null
}

test_all_reasons_are_told_in_order if {
	result := decision.result with input as but({"purpose": "law-enforcement", "signed": false})
	result.allow == false
	result.reasons == [
		"LEGAL_BASIS_NOT_PERMITTED",
		"MEMORANDUM_NOT_APPLICABLE",
		"PURPOSE_NOT_PERMITTED",
	]
}

test_nothing_denies_what_is_allowed if {
	denials := decision.denials with input as asked
	count(denials) == 0
}
