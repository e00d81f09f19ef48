# Memoranda. What lies above the open tier is given under a memorandum between provider and consumer. (Gateway
# policy 3, agreements between members; owner: legal department.)

package exchange.decision

# METADATA
# title: All memoranda, by name
memoranda := data.memoranda

# METADATA
# title: The memorandum stated
memorandum := memoranda[input.memorandum]

# METADATA
# title: The memorandum stated is in the register
# custom:
#   citation: Gateway policy 3.1
#   owner: legal department
#   remedy: State a memorandum that is in the register.
memorandum_proofs contains "memoranda.known" if memorandum

# METADATA
# title: The memorandum covers these parties, this dataset and this purpose
# custom:
#   citation: Gateway policy 3.2
#   owner: legal department
#   remedy: State a memorandum between these two members that names this dataset and this purpose.
memorandum_proofs contains "memoranda.scope" if {
	input.provider.id == memorandum.provider
	input.consumer.id in memorandum.consumers
	input.dataset.name in memorandum.datasets
	input.purpose in memorandum.purposes
}

# METADATA
# title: The memorandum has begun and has not ended
# custom:
#   citation: Gateway policy 3.3
#   owner: legal department
#   remedy: Renew the memorandum, or state one that is in force.
memorandum_proofs contains "memoranda.period" if {
	memorandum.valid_from <= input.time
	input.time < memorandum.before
}

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 3.1
#   owner: legal department
#   remedy: State a memorandum that is in the register.
memorandum_proofs contains "memoranda.known" if input.memorandum == ""

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 3.2
#   owner: legal department
#   remedy: State a memorandum between these two members that names this dataset and this purpose.
memorandum_proofs contains "memoranda.scope" if input.memorandum == ""

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 3.3
#   owner: legal department
#   remedy: Renew the memorandum, or state one that is in force.
memorandum_proofs contains "memoranda.period" if input.memorandum == ""

# METADATA
# title: The memorandum stated carries the exchange
memorandum_usable if {
	memorandum
	"memoranda.scope" in memorandum_proofs
	"memoranda.period" in memorandum_proofs
}
