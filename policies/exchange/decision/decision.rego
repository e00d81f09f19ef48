# METADATA
# title: Decision on one exchange
# description: >-
#   Allowed only when every chapter of the policy proves that it permits it. Everything else, a fault of this
#   policy included, is a denial. Denials explain; what is not proven is denied even if no denial says why.
# custom:
#   citation: Gateway policy 0, deny by default
#   owner: security officer
package exchange.decision

# METADATA
# title: Every chapter permits the exchange
default allow := false

# METADATA
# title: Every chapter permits the exchange
allow if {
	facts_whole
	purpose_permits
	memorandum_permits
	tier_permits
	basis_permits
	obligations_permit
	reads_permit
}

# METADATA
# title: The reasons for a denial
reasons := {denial.reason | some denial in denials}

# METADATA
# title: The purpose carries the exchange
grounds contains concat(".", ["purposes", input.purpose])

# METADATA
# title: The tier carries the exchange
grounds contains concat(".", ["tiers", granted])

# METADATA
# title: The memorandum carries the exchange
grounds contains concat(".", ["memoranda", input.memorandum]) if memorandum_usable

# METADATA
# title: The legal basis carries the exchange
grounds contains concat(".", ["legal_bases", input.legal_basis]) if input.legal_basis != ""

# METADATA
# title: The days on which what carries the exchange ends
ends contains memorandum.valid_until if is_string(memorandum.valid_until)

# METADATA
# title: The days on which what carries the exchange ends
ends contains basis.valid_until if is_string(basis.valid_until)

# METADATA
# title: Nothing that carries the exchange has an end
default valid_until := null

# METADATA
# title: The first of the ends
valid_until := min(ends) if count(ends) > 0

# METADATA
# title: The decision, when no rule below speaks
default result := {
	"allow": false,
	"reasons": ["POLICY_UNDEFINED"],
	"tier": "",
	"obligations": {},
	"rule_ids": ["decision.default"],
	"valid_until": null,
	"bundle": "",
}

# METADATA
# title: The decision, when the exchange is allowed
# entrypoint: true
result := {
	"allow": true,
	"reasons": [],
	"tier": granted,
	"obligations": obligations,
	"rule_ids": sort(grounds),
	"valid_until": valid_until,
	"bundle": data.bundle.digest,
} if {
	allow
}

# METADATA
# title: The decision, when the exchange is denied
result := {
	"allow": false,
	"reasons": sort(reasons),
	"tier": "",
	"obligations": {},
	"rule_ids": sort({denial.rule | some denial in denials}),
	"valid_until": null,
	"bundle": data.bundle.digest,
} if {
	not allow
	count(reasons) > 0
}
