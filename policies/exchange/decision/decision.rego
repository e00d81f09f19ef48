# METADATA
# title: Decision on one exchange
# description: >-
#   Allowed only when every condition is proven. Everything else, a fault of this policy included, is a denial;
#   the conditions that are not proven explain it.
# custom:
#   citation: Gateway policy 0, deny by default
#   owner: security officer
package exchange.decision

# METADATA
# title: Whatever must be proven before an exchange is allowed
# description: >-
#   For each condition the reason that its lack gives. A lack is told only when what it rests on (`after`) is
#   proven: who states an unknown purpose need not hear that it is not open to them.
conditions := {
	"facts.whole": {"reason": "POLICY_UNDEFINED", "after": []},
	"purposes.known": {"reason": "PURPOSE_UNKNOWN", "after": []},
	"purposes.member_class": {"reason": "PURPOSE_NOT_PERMITTED", "after": ["purposes.known"]},
	"purposes.dataset_class": {"reason": "PURPOSE_NOT_PERMITTED", "after": ["purposes.known"]},
	"purposes.tier": {"reason": "PURPOSE_NOT_PERMITTED", "after": ["purposes.known"]},
	"purposes.operation": {"reason": "OPERATION_NOT_PERMITTED", "after": ["purposes.known"]},
	"purposes.score": {"reason": "SCORE_NOT_PERMITTED", "after": ["purposes.known"]},
	"purposes.owner": {"reason": "SCORE_NOT_PERMITTED", "after": ["purposes.known", "purposes.dataset_class"]},
	"purposes.document": {"reason": "DOCUMENT_MISSING", "after": ["purposes.known", "purposes.member_class"]},
	"purposes.subjects": {"reason": "SUBJECTS_NOT_PERMITTED", "after": ["purposes.known", "purposes.operation"]},
	"catalogue.known": {"reason": "CATALOGUE_ENTRY_UNKNOWN", "after": []},
	"catalogue.class": {"reason": "CATALOGUE_ENTRY_BREACHED", "after": ["catalogue.known"]},
	"catalogue.retention": {"reason": "CATALOGUE_ENTRY_BREACHED", "after": ["catalogue.known"]},
	"contracts.stated": {"reason": "CONTRACT_MISSING", "after": []},
	"contracts.period": {"reason": "CONTRACT_NOT_IN_FORCE", "after": ["contracts.stated"]},
	"contracts.purpose": {"reason": "CONTRACT_NOT_APPLICABLE", "after": ["contracts.stated"]},
	"contracts.recipient": {"reason": "CONTRACT_NOT_APPLICABLE", "after": ["contracts.stated"]},
	"memoranda.known": {"reason": "MEMORANDUM_UNKNOWN", "after": []},
	"memoranda.scope": {"reason": "MEMORANDUM_NOT_APPLICABLE", "after": ["memoranda.known"]},
	"memoranda.period": {"reason": "MEMORANDUM_NOT_IN_FORCE", "after": ["memoranda.known"]},
	"tiers.known": {"reason": "TIER_UNKNOWN", "after": []},
	"tiers.classes": {"reason": "MEMBER_CLASS_NOT_PERMITTED", "after": []},
	"tiers.member_class": {"reason": "MEMBER_CLASS_NOT_PERMITTED", "after": ["tiers.known"]},
	"tiers.signature": {"reason": "SIGNATURE_REQUIRED", "after": ["tiers.known"]},
	"tiers.memorandum": {"reason": "MEMORANDUM_MISSING", "after": ["tiers.known"]},
	"tiers.reach": {
		"reason": "MEMORANDUM_NOT_APPLICABLE",
		"after": ["tiers.known", "tiers.memorandum", "memoranda.known", "memoranda.scope", "memoranda.period"],
	},
	"tiers.granted": {
		"reason": "NOTHING_PERMITTED",
		"after": ["tiers.known", "tiers.member_class", "tiers.reach", "purposes.known", "purposes.tier"],
	},
	"legal_bases.stated": {"reason": "LEGAL_BASIS_MISSING", "after": ["tiers.known"]},
	"legal_bases.known": {"reason": "LEGAL_BASIS_UNKNOWN", "after": []},
	"legal_bases.purpose": {"reason": "LEGAL_BASIS_NOT_PERMITTED", "after": ["legal_bases.known"]},
	"legal_bases.memorandum": {
		"reason": "LEGAL_BASIS_NOT_PERMITTED",
		"after": ["legal_bases.known", "memoranda.known"],
	},
	"legal_bases.period": {"reason": "LEGAL_BASIS_NOT_IN_FORCE", "after": ["legal_bases.known"]},
	"legal_bases.persons": {
		"reason": "LEGAL_BASIS_MISSING",
		"after": ["catalogue.known", "legal_bases.stated", "tiers.granted"],
	},
	"legal_bases.datasets": {
		"reason": "LEGAL_BASIS_NOT_PERMITTED",
		"after": ["catalogue.known", "legal_bases.known", "tiers.granted"],
	},
	"obligations.classified": {"reason": "TIER_UNKNOWN", "after": ["tiers.granted"]},
	"obligations.within_tier": {
		"reason": "FIELD_ABOVE_TIER",
		"after": ["tiers.granted", "obligations.classified"],
	},
	"obligations.links": {
		"reason": "LEGAL_BASIS_NOT_PERMITTED",
		"after": ["tiers.granted", "obligations.classified", "obligations.within_tier"],
	},
	"obligations.treatable": {
		"reason": "OBLIGATION_UNSUPPORTED",
		"after": ["tiers.granted", "obligations.classified", "obligations.within_tier", "obligations.links"],
	},
	"obligations.capabilities": {"reason": "OBLIGATION_UNSUPPORTED", "after": ["tiers.granted"]},
	"obligations.something": {
		"reason": "NOTHING_PERMITTED",
		"after": [
			"tiers.granted", "obligations.classified", "obligations.within_tier", "obligations.links",
			"obligations.treatable",
		],
	},
	"contracts.fields": {
		"reason": "CONTRACT_NOT_APPLICABLE",
		"after": [
			"contracts.stated", "tiers.granted", "obligations.classified", "obligations.within_tier",
			"obligations.links", "obligations.treatable",
		],
	},
	"duties.known": {"reason": "OBLIGATION_UNSUPPORTED", "after": ["tiers.granted", "catalogue.known"]},
	"duties.capabilities": {
		"reason": "OBLIGATION_UNSUPPORTED",
		"after": ["tiers.granted", "catalogue.known", "duties.known"],
	},
	"reads.visible": {"reason": "FILTER_HIDDEN_FIELD", "after": ["tiers.granted"]},
}

# METADATA
# title: Whatever is proven
proofs := (((fact_proofs | purpose_proofs) | (memorandum_proofs | tier_proofs)) | (basis_proofs | field_proofs)) | ((catalogue_proofs | duty_proofs) | contract_proofs)

# METADATA
# title: What is not proven
unproven := object.keys(conditions) - proofs

# METADATA
# title: What is not proven and rests on nothing that is not proven
denials contains condition if {
	some condition in unproven
	count({other | some other in conditions[condition].after} - proofs) == 0
}

# METADATA
# title: The reasons for a denial
reasons := {conditions[condition].reason | some condition in denials}

# METADATA
# title: Every condition is proven
allow if count(unproven) == 0

# METADATA
# title: Unless every condition is proven
default allow := false

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
# title: The contract carries the exchange
grounds contains concat(".", ["contracts", contract.name])

# METADATA
# title: The days on which what carries the exchange ends
ends contains memorandum.valid_until if is_string(memorandum.valid_until)

# METADATA
# title: The days on which what carries the exchange ends
ends contains basis.valid_until if is_string(basis.valid_until)

# METADATA
# title: The days on which what carries the exchange ends
ends contains contract.valid_until if is_string(contract.valid_until)

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
	"duties": {},
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
	"duties": duties,
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
	"duties": {},
	"rule_ids": sort(denials),
	"valid_until": null,
	"bundle": data.bundle.digest,
} if {
	not allow
	count(reasons) > 0
}
