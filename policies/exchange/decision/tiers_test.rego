package exchange.decision_test

import data.exchange.decision

test_the_memorandum_grants_its_tier if {
	decision.granted == "limited" with input as asked
}

test_the_purpose_caps_the_tier if {
	generous := {"m": object.union(data.memoranda["registry-harbour-bank"], {"tier": "restricted"})}
	decision.granted == "limited" with input as but({"memorandum": "m"}) with data.memoranda as generous
}

test_the_class_of_the_member_caps_the_tier if {
	generous := {"m": object.union(data.memoranda["registry-harbour-bank"], {"tier": "restricted"})}
	open := {"credit-check": object.union(
		data.purposes["credit-check"],
		{"tiers": ["public", "limited", "government", "restricted"]},
	)}
	decision.granted == "limited" with input as but({"memorandum": "m"})
		with data.memoranda as generous
		with data.purposes as open
}

test_a_memorandum_below_the_tier_of_the_dataset_does_not_reach_it if {
	meagre := {"m": object.union(data.memoranda["registry-harbour-bank"], {"tier": "public"})}
	denials := decision.denials with input as but({"memorandum": "m", "dataset": {"tier": "limited"}})
		with data.memoranda as meagre
	"tiers.reach" in denials
}

test_a_tier_that_asks_for_no_memorandum_is_had_without if {
	open := object.union(data.tiers, {"limited": {"memorandum": false}})
	result := decision.result with input as but({"memorandum": "", "dataset": {"tier": "limited"}})
		with data.tiers as open
	result.allow == true
	result.tier == "limited"
}
