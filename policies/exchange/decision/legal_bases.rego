# Legal bases. Above the open tier an article of law must allow the exchange, today and for this purpose.
# (Gateway policy 4, lawfulness; owner: legal department.)

package exchange.decision

# METADATA
# title: The legal basis stated
basis := data.legal_bases[input.legal_basis]

# METADATA
# title: The legal basis allows this purpose
basis_serves_purpose if input.purpose in basis.purposes

# METADATA
# title: No memorandum limits the choice of legal basis
basis_agreed if input.memorandum == ""

# METADATA
# title: The memorandum names the legal basis
basis_agreed if input.legal_basis in memorandum.legal_bases

# METADATA
# title: The article has come into force and has no end
basis_in_force if {
	basis.valid_from <= input.time
	basis.valid_until == null
}

# METADATA
# title: The article has come into force and has not ended
basis_in_force if {
	is_string(basis.valid_until)
	basis.valid_from <= input.time
	input.time < basis.valid_until
}

# METADATA
# title: The tier asks for no legal basis
basis_unneeded if requirements.legal_basis == false

# METADATA
# title: None is stated and none is needed
basis_permits if {
	input.legal_basis == ""
	basis_unneeded
}

# METADATA
# title: The legal basis stated carries the exchange
basis_permits if {
	input.legal_basis != ""
	basis_serves_purpose
	basis_agreed
	basis_in_force
}

# METADATA
# title: The tier asks for a legal basis and none is stated
# custom:
#   citation: Gateway policy 4.1
#   owner: legal department
#   remedy: State the legal basis of the query.
denials contains {"rule": "legal_bases.missing", "reason": "LEGAL_BASIS_MISSING"} if {
	input.legal_basis == ""
	requirements
	not basis_unneeded
}

# METADATA
# title: The legal basis is not in the register
# custom:
#   citation: Gateway policy 4.2
#   owner: legal department
#   remedy: State a legal basis that is in the register.
denials contains {"rule": "legal_bases.unknown", "reason": "LEGAL_BASIS_UNKNOWN"} if {
	input.legal_basis != ""
	not basis
}

# METADATA
# title: The legal basis does not allow this purpose
# custom:
#   citation: Gateway policy 4.3
#   owner: legal department
#   remedy: State a legal basis that allows this purpose.
denials contains {"rule": "legal_bases.purpose", "reason": "LEGAL_BASIS_NOT_PERMITTED"} if {
	basis
	not basis_serves_purpose
}

# METADATA
# title: The memorandum does not name the legal basis
# custom:
#   citation: Gateway policy 4.4
#   owner: legal department
#   remedy: State one of the legal bases that the memorandum names.
denials contains {"rule": "legal_bases.memorandum", "reason": "LEGAL_BASIS_NOT_PERMITTED"} if {
	basis
	memorandum
	not basis_agreed
}

# METADATA
# title: The legal basis is not in force
# custom:
#   citation: Gateway policy 4.5
#   owner: legal department
#   remedy: State a legal basis that is in force on the day of the query.
denials contains {"rule": "legal_bases.period", "reason": "LEGAL_BASIS_NOT_IN_FORCE"} if {
	basis
	not basis_in_force
}
