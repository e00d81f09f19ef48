# Duties. What binds the exchange as a whole. Class of member, tier, purpose, legal basis, memorandum, catalogue entry
# and dataset may each lay duties down; where several lay down the same, the strictest holds. (Gateway policy 9,
# duties of an exchange; owner: data protection officer.)

package exchange.decision

# METADATA
# title: The duties that the legal basis lays down
default duties_of_basis := {}

# METADATA
# title: The duties that the legal basis lays down
duties_of_basis := basis.duties

# METADATA
# title: The duties that the memorandum lays down
default duties_of_memorandum := {}

# METADATA
# title: The duties that the memorandum lays down
duties_of_memorandum := memorandum.duties

# METADATA
# title: The duties that the dataset lays down
default duties_of_dataset := {}

# METADATA
# title: Who names no subject is told of no smaller group than the dataset allows
duties_of_dataset := {"smallest_cohort": input.dataset.cohort} if {
	input.subjects == 0
	input.dataset.cohort > 0
}

# METADATA
# title: All that lays duties down
burdens := {
	classes[input.consumer.class].duties,
	requirements.duties,
	purpose.duties,
	entry.duties,
	duties_of_basis,
	duties_of_memorandum,
	duties_of_dataset,
}

# METADATA
# title: The names of the duties laid down
bound := {name | some burden in burdens; some name, _ in burden}

# METADATA
# title: Duties of which the greatest number is the strictest, with the name of that number
greatest := {
	"smallest_cohort": "records",
	"round_counts": "to",
	"delay": "seconds",
}

# METADATA
# title: Duties of which the least number is the strictest, with the name of that number
least := {
	"limit_records": "records",
	"notify_subject": "within_days",
	"acknowledge": "within_hours",
}

# METADATA
# title: Duties by their greatest number
duties_by_name[name] := {parameter: number} if {
	some name in bound
	parameter := greatest[name]
	number := max({burden[name] | some burden in burdens})
}

# METADATA
# title: Duties by their least number
duties_by_name[name] := {parameter: number} if {
	some name in bound
	parameter := least[name]
	number := min({burden[name] | some burden in burdens})
}

# METADATA
# title: The records that a consumer may have for a purpose in a day, by their least number
duties_by_name["limit_volume"] := {"records": min({burden.limit_volume | some burden in burdens}), "per": "day"} if {
	"limit_volume" in bound
}

# METADATA
# title: The answer is one bit
duties_by_name["one_bit"] := {} if "one_bit" in bound

# METADATA
# title: The shortest time for which a record may be given out
duties_by_name["retention"] := {
	"field": input.dataset.retention.field,
	"years": min({years | some years in [input.dataset.retention.years, entry.retention_years]; is_number(years)}),
} if {
	is_object(input.dataset.retention)
}

# METADATA
# title: What binds the exchange as a whole
duties := duties_by_name

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
