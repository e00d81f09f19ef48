# Fields. What may become of each: not visible, shown under a pseudonym, masked, coarsened, or as it is; the strictest
# holds, of the tier's treatment and the contract's too. (Gateway policy 6, data minimisation; owner: data protection officer.)

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
	"untreated": named - tiered,
	"withdrawn": (named & tiered) - shown,
	"personal": (personal | unclear),
	"shown": shown,
	"masks": masks,
	"coarsenings": coarsenings,
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

	# What is not described in full is shown nowhere; that it tells of nobody is not known either.
	unclear := {name | some name in (considered | read); count(described[name]) != 5}
	coded := {name | requirements.person_identifiers == "pseudonymise"; some name in personal}
	disclosed := {name | requirements.person_identifiers == "release"; some name in personal}
	plain := (visible - personal) | disclosed
	tiered := plain | coded

	# At the very tier granted, members of a coarse class see no field exactly that can be masked or coarsened.
	blurred := {name |
		classes[input.consumer.class].coarse == true
		some name in plain
		described[name].tier == tier
	}
	maskable := {name | some name in blurred; is_object(described[name].mask)}
	coarse := {name | some name in (blurred - maskable); is_string(described[name].generalise)}
	bare := (plain - maskable) - coarse

	# Where the contract says nothing, or no more than that, the tier decides; else the stricter of the two. What the
	# contract says and nobody understands is to be dropped. A mask and a coarsening cannot be compared.
	agreed := terms
	released := {name | some name, term in agreed; term.treatment == "release"}
	generalised := {name | some name, term in agreed; term.treatment == "generalise"}
	hashed := {name | some name, term in agreed; term.treatment == "pseudonymise"}
	starred := {name | some name, term in agreed; term.treatment == "mask"}
	free := (considered | read) - (object.keys(agreed) - released)
	named_apart := {name | some name in (plain & hashed); is_string(described[name].identifier)}
	pseudonymised := (coded & (((free | generalised) | starred) | hashed)) | named_apart
	masks := object.union(
		{name: described[name].mask | some name in ((maskable & free) & considered)},
		object.union(
			{name: joint_mask(described[name].mask, agreed[name].params) | some name in ((maskable & starred) & considered)},
			{name: {"keep_first": kept.keep_first, "keep_last": kept.keep_last} |
				some name in ((bare & starred) & considered)
				kept := agreed[name].params
			},
		),
	)
	coarsenings := object.union(
		{name: {"method": described[name].generalise} | some name in ((coarse & free) & considered)},
		object.union(
			{name: {"method": coarser(described[name].generalise, agreed[name].params.method)} |
				some name in ((coarse & generalised) & considered)
			},
			{name: {"method": agreed[name].params.method} | some name in ((bare & generalised) & considered)},
		),
	)
	exact := bare & free
	shown := ((exact | pseudonymised) | object.keys(masks)) | object.keys(coarsenings)
}
