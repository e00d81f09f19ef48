# Obligations. What becomes of each field at the tier granted. Whatever is not understood is dropped; where
# several treatments apply, the strictest holds: drop before pseudonymise before mask before generalise before
# release. (Gateway policy 6, data minimisation; owner: data protection officer.)

package exchange.decision

# METADATA
# title: The fields of the dataset, sorted by what may become of them
# description: >-
#   One rule, for each further one would cost an evaluation of its own. Only the fields that the query names (all of
#   them, when it names none) and those by which it chooses records are looked at.
fields := {
	"considered": considered,
	"unclassified": named - classified,
	"above": named - within,
	"closed": closed,
	"untreated": named - shown,
	"personal": personal,
	"shown": shown,
	"masked": masked,
	"coarsened": coarsened,
	"pseudonymised": pseudonymised,
	"exact": exact,
	"read": read,
} if {
	described := input.dataset.fields
	ranked := tiers
	identifiers := data.identifiers
	highest := granted_rank
	tier := granted
	named := {name | some name in input.fields}
	considered := named | {name | count(named) == 0; some name, _ in described}
	read := {name | some name in input.reads}

	# At or below the tier granted, and described in full; an identifier is of a known kind, a link is opened by the
	# legal basis.
	kinds := {null} | object.keys(identifiers)
	links := {null} | {link | some link in basis.links}
	visible := {name |
		some name in (considered | read)
		field := described[name]
		count(field) == 5
		ranked[field.tier].rank <= highest
		field.identifier in kinds
		field.link in links
	}

	# Why the others are not: told where a field is named.
	hidden := named - visible
	classified := (named - hidden) | {name | some name in hidden; ranked[described[name].tier]}
	within := (named - hidden) | {name | some name in hidden; ranked[described[name].tier].rank <= highest}
	closed := {name | some name in hidden; count({described[name].link} - links) == 1}

	# Identifiers of persons go out as pseudonyms, or as they are, where the tier says so; else not at all.
	personal := {name | some name in visible; identifiers[described[name].identifier].person != false}
	pseudonymised := {name | requirements.person_identifiers == "pseudonymise"; some name in personal}
	disclosed := {name | requirements.person_identifiers == "release"; some name in personal}
	plain := (visible - personal) | disclosed
	shown := plain | pseudonymised

	# At the very tier granted, members of a coarse class see no field exactly that can be masked or coarsened.
	blurred := {name |
		classes[input.consumer.class].coarse == true
		some name in plain
		described[name].tier == tier
	}
	masked := {name | some name in blurred; is_object(described[name].mask)}
	coarsened := {name | some name in (blurred - masked); is_string(described[name].generalise)}
	exact := (plain - masked) - coarsened
}

# METADATA
# title: What becomes of each field considered
obligations := object.union(
	object.union(
		{name: {"treatment": "drop", "params": {}} | some name in (fields.considered - fields.shown)},
		{name: {"treatment": "release", "params": {}} | some name in (fields.considered & fields.exact)},
	),
	object.union(
		{name: {"treatment": "pseudonymise", "params": {}} | some name in (fields.considered & fields.pseudonymised)},
		object.union(
			{name: {"treatment": "mask", "params": input.dataset.fields[name].mask} |
				some name in (fields.considered & fields.masked)
			},
			{name: {"treatment": "generalise", "params": {"method": input.dataset.fields[name].generalise}} |
				some name in (fields.considered & fields.coarsened)
			},
		),
	),
)

# METADATA
# title: Every field named has a tier
# custom:
#   citation: Gateway policy 6.3
#   owner: security officer
#   remedy: Ask the provider to classify the field, or leave it out.
field_proofs contains "obligations.classified" if count(fields.unclassified) == 0

# METADATA
# title: Every field named lies within the tier granted
# custom:
#   citation: Gateway policy 6.4
#   owner: security officer
#   remedy: Leave the field out, or ask under a memorandum that grants its tier.
field_proofs contains "obligations.within_tier" if count(fields.above) == 0

# METADATA
# title: Every field named that is a link is opened by the legal basis
# custom:
#   citation: Gateway policy 6.8
#   owner: data protection officer
#   remedy: State the legal basis that opens the link, such as the one from a company to its representative.
field_proofs contains "obligations.links" if count(fields.closed) == 0

# METADATA
# title: Every field named has a treatment laid down
# custom:
#   citation: Gateway policy 6.5
#   owner: data protection officer
#   remedy: Ask the operator to add the field's kind of identifier to the policy, or leave the field out.
field_proofs contains "obligations.treatable" if count(fields.untreated) == 0

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
field_proofs contains "obligations.something" if count(fields.considered & fields.shown) > 0
