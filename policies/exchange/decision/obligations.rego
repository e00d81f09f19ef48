# Obligations. What becomes of each field at the tier granted. Whatever is not understood is dropped; where
# several treatments apply, the strictest holds: drop before pseudonymise before mask before generalise before
# release. (Gateway policy 6, data minimisation; owner: data protection officer.)

package exchange.decision

# METADATA
# title: What becomes of each field considered
obligations := object.union(
	object.union(
		{name: {"treatment": "drop", "params": {}} | some name in (portions.considered - portions.shown)},
		{name: {"treatment": "release", "params": {}} | some name in (portions.considered & portions.exact)},
	),
	object.union(
		{name: {"treatment": "pseudonymise", "params": {}} | some name in (portions.considered & portions.pseudonymised)},
		object.union(
			{name: {"treatment": "mask", "params": params} | some name, params in portions.masks},
			{name: {"treatment": "generalise", "params": params} | some name, params in portions.coarsenings},
		),
	),
)

# METADATA
# title: Every field named has a tier
# custom:
#   citation: Gateway policy 6.3
#   owner: security officer
#   remedy: Ask the provider to classify the field, or leave it out.
field_proofs contains "obligations.classified" if count(portions.unclassified) == 0

# METADATA
# title: Every field named lies within the tier granted
# custom:
#   citation: Gateway policy 6.4
#   owner: security officer
#   remedy: Leave the field out, or ask under a memorandum that grants its tier.
field_proofs contains "obligations.within_tier" if count(portions.above) == 0

# METADATA
# title: Every field named that is a link is opened by the legal basis
# custom:
#   citation: Gateway policy 6.8
#   owner: data protection officer
#   remedy: State the legal basis that opens the link, such as the one from a company to its representative.
field_proofs contains "obligations.links" if count(portions.closed) == 0

# METADATA
# title: Every field named has a treatment laid down
# custom:
#   citation: Gateway policy 6.5
#   owner: data protection officer
#   remedy: Ask the operator to add the field's kind of identifier to the policy, or leave the field out.
field_proofs contains "obligations.treatable" if count(portions.untreated) == 0

# METADATA
# title: What the gateway offers to do
capabilities := {capability | some capability in input.capabilities}

# METADATA
# title: What the gateway offers to do
capabilities := {capability | some capability in input.capabilities}

# METADATA
# title: The gateway can do all that the answer needs, and offers nothing that this policy does not know
# custom:
#   citation: Gateway policy 6.6
#   owner: security officer
#   remedy: Ask the operator to run a gateway that can carry out every treatment of the policy.
field_proofs contains "obligations.capabilities" if {
	count({obligation.treatment | some obligation in obligations} - capabilities) == 0
	known := {
		"release", "generalise", "mask", "pseudonymise", "drop", "duty:acknowledge", "duty:delay",
		"duty:limit_records", "duty:limit_volume", "duty:notify_subject", "duty:one_bit", "duty:retention",
		"duty:round_counts", "duty:smallest_cohort",
	}
	count(capabilities - known) == 0
}

# METADATA
# title: Something is left to show
# custom:
#   citation: Gateway policy 6.7
#   owner: data protection officer
#   remedy: Ask for a dataset, or under a memorandum, that grants at least one field.
field_proofs contains "obligations.something" if count(portions.considered & portions.shown) > 0
