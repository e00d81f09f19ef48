# Reads. Choosing records by a field reads that field, so it must be one that the consumer may know exactly: shown as
# it is, or an identifier that comes back as a pseudonym, for who asks by it knows it already. (Gateway policy 7, no
# reading by filter; owner: security officer.)

package exchange.decision

# METADATA
# title: The query chooses by fields only that the consumer may know exactly
# custom:
#   citation: Gateway policy 7.1
#   owner: security officer
#   remedy: Choose records by a field that is released to you as it is, or by an identifier.
field_proofs contains "reads.visible" if {
	count(portions.read - (portions.exact | portions.pseudonymised)) == 0
}
