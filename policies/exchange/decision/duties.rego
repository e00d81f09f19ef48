# Duties. What binds the exchange as a whole. Class of member, tier, purpose, legal basis, memorandum, catalogue entry
# and dataset may each lay duties down; where several lay down the same, the strictest holds. (Gateway policy 9,
# duties of an exchange; owner: data protection officer.)

package exchange.decision

# METADATA
# title: Duties of which the greatest number is the strictest, with the name of that number
greatest := {"smallest_cohort": "records", "round_counts": "to", "delay": "seconds"}

# METADATA
# title: Duties of which the least number is the strictest, with the name of that number
least := {"limit_records": "records", "notify_subject": "within_days", "acknowledge": "within_hours"}

# METADATA
# title: All that lays duties down
burdens := {
	classes[input.consumer.class].duties,
	requirements.duties,
	purpose.duties,
	entry.duties,
	object.get(bases, [input.legal_basis, "duties"], {}),
	object.get(memoranda, [input.memorandum, "duties"], {}),
	# Who names no subject is told of no smaller group than the dataset allows.
	{"smallest_cohort": input.dataset.cohort | input.subjects == 0; input.dataset.cohort > 0},
}

# METADATA
# title: The names of the duties laid down
bound := {name | some burden in burdens; some name, _ in burden}

# METADATA
# title: What binds the exchange as a whole
duties := object.union(
	object.union(
		{name: {greatest[name]: max({burden[name] | some burden in burdens})} |
			some name in (bound & object.keys(greatest))
		},
		{name: {least[name]: min({burden[name] | some burden in burdens})} |
			some name in (bound & object.keys(least))
		},
	),
	object.union(
		object.union(
			{name: {"records": min({burden[name] | some burden in burdens}), "per": "day"} |
				some name in (bound & {"limit_volume"})
			},
			{name: {} | some name in (bound & {"one_bit"})},
		),
		# A record may be given out for as long as both the dataset and its catalogue entry allow.
		{"retention": {"field": kept.field, "years": years} |
			kept := input.dataset.retention
			years := min({number | some number in [kept.years, entry.retention_years]; is_number(number)})
		},
	),
)

# METADATA
# title: Every duty laid down is one that this policy can tell
# custom:
#   citation: Gateway policy 9.1
#   owner: security officer
#   remedy: Report this to the operator; rules and data of the policy do not fit together.
duty_proofs contains "duties.known" if count(bound - object.keys(duties)) == 0

# METADATA
# title: The gateway can carry out every duty laid down
# custom:
#   citation: Gateway policy 9.2
#   owner: security officer
#   remedy: Ask the operator to run a gateway that can carry out every duty of the policy.
duty_proofs contains "duties.capabilities" if {
	count({concat(":", ["duty", name]) | some name, _ in duties} - capabilities) == 0
}
