# Obligations. What becomes of each field at the tier granted. Whatever is not understood is dropped; where
# several treatments apply, the strictest holds: drop before pseudonymise before generalise before release.
# (Gateway policy 6, data minimisation; owner: data protection officer.)

package exchange.decision

# METADATA
# title: The fields named in the query; none asks for everything that may be had
named := {name | some name in input.fields}

# METADATA
# title: The fields named in the query
considered := named if count(named) > 0

# METADATA
# title: All fields, when the query names none
considered := object.keys(input.dataset.fields) if count(named) == 0

# METADATA
# title: Fields at or below the tier granted whose description says all that must be known
visible contains name if {
	ranked := tiers
	highest := granted_rank
	kinds := {null} | object.keys(data.identifiers)
	some name, field in input.dataset.fields
	ranked[field.tier].rank <= highest
	field.identifier in kinds
	field.generalise != false
}

# METADATA
# title: Visible fields that identify persons
personal contains name if {
	kinds := data.identifiers
	some name in visible
	kinds[input.dataset.fields[name].identifier].person != false
}

# METADATA
# title: Identifiers of persons go out as pseudonyms where the tier says so
# custom:
#   citation: Gateway policy 6.1
#   owner: data protection officer
#   remedy: Ask at a tier that shows persons by name, on a legal basis that allows it.
pseudonymised contains name if {
	requirements.person_identifiers == "pseudonymise"
	some name in personal
}

# METADATA
# title: Identifiers of persons go out as they are where the tier says so
disclosed contains name if {
	requirements.person_identifiers == "release"
	some name in personal
}

# METADATA
# title: Fields of which something may be shown
shown := ((visible - personal) | pseudonymised) | disclosed

# METADATA
# title: Fields at the very tier granted are coarsened for members of a coarse class
# custom:
#   citation: Gateway policy 6.2
#   owner: data protection officer
#   remedy: Ask under a memorandum that grants a higher tier.
coarsened contains name if {
	classes[input.consumer.class].coarse == true
	some name in (shown - pseudonymised)
	field := input.dataset.fields[name]
	is_string(field.generalise)
	field.tier == granted
}

# METADATA
# title: Fields that go out as they are
released := (shown - pseudonymised) - coarsened

# METADATA
# title: What becomes of each field considered
obligations := object.union(
	object.union(
		{name: {"treatment": "drop", "params": {}} | some name in (considered - shown)},
		{name: {"treatment": "pseudonymise", "params": {}} | some name in (considered & pseudonymised)},
	),
	object.union(
		{name: {"treatment": "generalise", "params": {"method": input.dataset.fields[name].generalise}} |
			some name in (considered & coarsened)
		},
		{name: {"treatment": "release", "params": {}} | some name in (considered & released)},
	),
)

# METADATA
# title: Fields named in the query that have a tier
classified contains name if {
	some name in named
	tiers[input.dataset.fields[name].tier]
}

# METADATA
# title: Fields named in the query that lie within the tier granted
within_tier contains name if {
	some name in named
	tiers[input.dataset.fields[name].tier].rank <= granted_rank
}

# METADATA
# title: Every field named has a tier
# custom:
#   citation: Gateway policy 6.3
#   owner: security officer
#   remedy: Ask the provider to classify the field, or leave it out.
field_proofs contains "obligations.classified" if count(named - classified) == 0

# METADATA
# title: Every field named lies within the tier granted
# custom:
#   citation: Gateway policy 6.4
#   owner: security officer
#   remedy: Leave the field out, or ask under a memorandum that grants its tier.
field_proofs contains "obligations.within_tier" if count(named - within_tier) == 0

# METADATA
# title: Every field named has a treatment laid down
# custom:
#   citation: Gateway policy 6.5
#   owner: data protection officer
#   remedy: Ask the operator to add the field's kind of identifier to the policy, or leave the field out.
field_proofs contains "obligations.treatable" if count(named - shown) == 0

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
field_proofs contains "obligations.something" if count(considered & shown) > 0
