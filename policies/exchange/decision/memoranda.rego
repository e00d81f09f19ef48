# Memoranda. What lies above the open tier is given under a memorandum between provider and consumer.
# (Gateway policy 3, agreements between members; owner: legal department.)

package exchange.decision

# METADATA
# title: The memorandum stated
memorandum := data.memoranda[input.memorandum]

# METADATA
# title: The memorandum covers these parties, this dataset and this purpose
memorandum_applies if {
	input.provider.id == memorandum.provider
	input.consumer.id in memorandum.consumers
	input.dataset.name in memorandum.datasets
	input.purpose in memorandum.purposes
}

# METADATA
# title: The memorandum has begun and has no end
memorandum_in_force if {
	memorandum.valid_from <= input.time
	memorandum.valid_until == null
}

# METADATA
# title: The memorandum has begun and has not ended
memorandum_in_force if {
	is_string(memorandum.valid_until)
	memorandum.valid_from <= input.time
	input.time < memorandum.valid_until
}

# METADATA
# title: The memorandum carries the exchange
memorandum_usable if {
	memorandum_applies
	memorandum_in_force
}

# METADATA
# title: No memorandum is stated; the tier says whether one is needed
memorandum_permits if input.memorandum == ""

# METADATA
# title: The memorandum stated carries the exchange
memorandum_permits if memorandum_usable

# METADATA
# title: The memorandum is not in the register
# custom:
#   citation: Gateway policy 3.1
#   owner: legal department
#   remedy: State a memorandum that is in the register.
denials contains {"rule": "memoranda.unknown", "reason": "MEMORANDUM_UNKNOWN"} if {
	input.memorandum != ""
	not memorandum
}

# METADATA
# title: The memorandum does not cover this exchange
# custom:
#   citation: Gateway policy 3.2
#   owner: legal department
#   remedy: State a memorandum between these two members that names this dataset and this purpose.
denials contains {"rule": "memoranda.scope", "reason": "MEMORANDUM_NOT_APPLICABLE"} if {
	memorandum
	not memorandum_applies
}

# METADATA
# title: The memorandum is not in force
# custom:
#   citation: Gateway policy 3.3
#   owner: legal department
#   remedy: Renew the memorandum, or state one that is in force.
denials contains {"rule": "memoranda.period", "reason": "MEMORANDUM_NOT_IN_FORCE"} if {
	memorandum
	not memorandum_in_force
}
