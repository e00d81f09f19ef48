# Legal bases. Above the open tier an article of law must allow the exchange, today and for this purpose. (Gateway
# policy 4, lawfulness; owner: legal department.)

package exchange.decision

# METADATA
# title: The legal basis stated
basis := data.legal_bases[input.legal_basis]

# METADATA
# title: A legal basis is stated
# custom:
#   citation: Gateway policy 4.1
#   owner: legal department
#   remedy: State the legal basis of the query.
basis_proofs contains "legal_bases.stated" if input.legal_basis != ""

# METADATA
# title: The tier asks for no legal basis
# custom:
#   citation: Gateway policy 4.1
#   owner: legal department
#   remedy: State the legal basis of the query.
basis_proofs contains "legal_bases.stated" if requirements.legal_basis == false

# METADATA
# title: The legal basis is in the register
# custom:
#   citation: Gateway policy 4.2
#   owner: legal department
#   remedy: State a legal basis that is in the register.
basis_proofs contains "legal_bases.known" if basis

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 4.2
#   owner: legal department
#   remedy: State a legal basis that is in the register.
basis_proofs contains "legal_bases.known" if input.legal_basis == ""

# METADATA
# title: The legal basis allows this purpose
# custom:
#   citation: Gateway policy 4.3
#   owner: legal department
#   remedy: State a legal basis that allows this purpose.
basis_proofs contains "legal_bases.purpose" if input.purpose in basis.purposes

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 4.3
#   owner: legal department
#   remedy: State a legal basis that allows this purpose.
basis_proofs contains "legal_bases.purpose" if input.legal_basis == ""

# METADATA
# title: The memorandum names the legal basis
# custom:
#   citation: Gateway policy 4.4
#   owner: legal department
#   remedy: State one of the legal bases that the memorandum names.
basis_proofs contains "legal_bases.memorandum" if input.legal_basis in memorandum.legal_bases

# METADATA
# title: No memorandum limits the choice of legal basis
# custom:
#   citation: Gateway policy 4.4
#   owner: legal department
#   remedy: State one of the legal bases that the memorandum names.
basis_proofs contains "legal_bases.memorandum" if input.memorandum == ""

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 4.4
#   owner: legal department
#   remedy: State one of the legal bases that the memorandum names.
basis_proofs contains "legal_bases.memorandum" if input.legal_basis == ""

# METADATA
# title: The article has come into force and has no end
# custom:
#   citation: Gateway policy 4.5
#   owner: legal department
#   remedy: State a legal basis that is in force on the day of the query.
basis_proofs contains "legal_bases.period" if {
	basis.valid_from <= input.time
	basis.valid_until == null
}

# METADATA
# title: The article has come into force and has not ended
# custom:
#   citation: Gateway policy 4.5
#   owner: legal department
#   remedy: State a legal basis that is in force on the day of the query.
basis_proofs contains "legal_bases.period" if {
	is_string(basis.valid_until)
	basis.valid_from <= input.time
	input.time < basis.valid_until
}

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 4.5
#   owner: legal department
#   remedy: State a legal basis that is in force on the day of the query.
basis_proofs contains "legal_bases.period" if input.legal_basis == ""
