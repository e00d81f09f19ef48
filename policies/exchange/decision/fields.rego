# Fields. What may become of each: not visible, shown under a pseudonym, masked, coarsened, or as it is; the strictest
# holds. (Gateway policy 6, data minimisation; owner: data protection officer.)

package exchange.decision

# METADATA
# title: The fields of the dataset, sorted by what may become of them
# description: >-
#   One rule, for each further one would cost an evaluation of its own. Only the fields that the query names (all of
#   them, when it names none) and those by which it chooses records are looked at.
portions := {
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
