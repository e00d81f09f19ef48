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
# title: The gateway can do all that the answer needs, and offers nothing that this policy does not know
supported if {
	capabilities := {treatment | some treatment in input.capabilities}
	count({obligation.treatment | some obligation in obligations} - capabilities) == 0
	count(capabilities - {"release", "generalise", "mask", "pseudonymise", "drop"}) == 0
}

# METADATA
# title: Fields named in the query that have a tier
classified contains name if {
	some name in named
	tiers[input.dataset.fields[name].tier].rank >= 0
}

# METADATA
# title: Fields named in the query that lie above the tier granted
above_tier contains name if {
	some name in named
	tiers[input.dataset.fields[name].tier].rank > granted_rank
}

# METADATA
# title: Fields named in the query for which no treatment is laid down
untreatable := (named - shown) - (above_tier | (named - classified))

# METADATA
# title: Something remains to be shown
something_left if count(considered & shown) > 0

# METADATA
# title: Each field has a treatment that can be carried out, none that was named is withheld, and something is left
obligations_permit if {
	something_left
	count(named - shown) == 0
	supported
}

# METADATA
# title: A field named in the query has no tier
# custom:
#   citation: Gateway policy 6.3
#   owner: security officer
#   remedy: Ask the provider to classify the field, or leave it out.
denials contains {"rule": "obligations.unclassified", "reason": "TIER_UNKNOWN"} if count(named - classified) > 0

# METADATA
# title: A field named in the query lies above the tier granted
# custom:
#   citation: Gateway policy 6.4
#   owner: security officer
#   remedy: Leave the field out, or ask under a memorandum that grants its tier.
denials contains {"rule": "obligations.above_tier", "reason": "FIELD_ABOVE_TIER"} if count(above_tier) > 0

# METADATA
# title: No treatment is laid down for a field named in the query
# custom:
#   citation: Gateway policy 6.5
#   owner: data protection officer
#   remedy: Ask the operator to add the field's kind of identifier to the policy, or leave the field out.
denials contains {"rule": "obligations.untreatable", "reason": "OBLIGATION_UNSUPPORTED"} if count(untreatable) > 0

# METADATA
# title: The gateway and the policy do not know the same treatments
# custom:
#   citation: Gateway policy 6.6
#   owner: security officer
#   remedy: Ask the operator to run a gateway that can carry out every treatment of the policy.
denials contains {"rule": "obligations.capabilities", "reason": "OBLIGATION_UNSUPPORTED"} if {
	granted
	not supported
}

# METADATA
# title: Nothing would be left to show
# custom:
#   citation: Gateway policy 6.7
#   owner: data protection officer
#   remedy: Ask for a dataset, or under a memorandum, that grants at least one field.
denials contains {"rule": "obligations.nothing", "reason": "NOTHING_PERMITTED"} if {
	granted
	count(named) == 0
	not something_left
}
