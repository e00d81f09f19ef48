# Reads. Choosing records by a field reads that field, so it must be one that the consumer may know exactly.
# (Gateway policy 7, no reading by filter; owner: security officer.)

package exchange.decision

# METADATA
# title: Fields that a query may choose by
# description: >-
#   Fields shown as they are, and identifiers that come back as pseudonyms: who asks by such an identifier
#   knows it already.
readable := released | pseudonymised

# METADATA
# title: The query chooses by readable fields only
reads_permit if {
	count({name | some name in input.reads} - readable) == 0
}

# METADATA
# title: The query chooses by a field that the consumer may not know exactly
# custom:
#   citation: Gateway policy 7.1
#   owner: security officer
#   remedy: Choose records by a field that is released to you as it is, or by an identifier.
denials contains {"rule": "reads.hidden", "reason": "FILTER_HIDDEN_FIELD"} if {
	granted
	not reads_permit
}
