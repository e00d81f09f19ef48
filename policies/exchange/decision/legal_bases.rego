# Legal bases. Above the open tier an article of law must allow the exchange, today and for this purpose. (Gateway
# policy 4, lawfulness; owner: legal department.)

package exchange.decision

# METADATA
# title: All legal bases, by name
bases := data.legal_bases

# METADATA
# title: The legal basis stated
basis := bases[input.legal_basis]

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
# title: The article has come into force and has not ended
# custom:
#   citation: Gateway policy 4.5
#   owner: legal department
#   remedy: State a legal basis that is in force on the day of the query.
basis_proofs contains "legal_bases.period" if {
	basis.valid_from <= input.time
	input.time < basis.before
}

# METADATA
# title: None is stated; the tier says whether one is needed
# custom:
#   citation: Gateway policy 4.5
#   owner: legal department
#   remedy: State a legal basis that is in force on the day of the query.
basis_proofs contains "legal_bases.period" if input.legal_basis == ""

# METADATA
# title: The answer tells nothing about persons
# custom:
#   citation: Gateway policy 4.6
#   owner: data protection officer
#   remedy: State the legal basis of the query; records of persons are given on none without.
basis_proofs contains "legal_bases.persons" if {
	entry.persons == false
	count(portions.personal) == 0
}

# METADATA
# title: A legal basis is stated
# custom:
#   citation: Gateway policy 4.6
#   owner: data protection officer
#   remedy: State the legal basis of the query; records of persons are given on none without.
basis_proofs contains "legal_bases.persons" if input.legal_basis != ""

# METADATA
# title: The legal basis names the dataset
# custom:
#   citation: Gateway policy 4.7, no dossier
#   owner: data protection officer
#   remedy: State a legal basis that names this dataset; what it does not name may not be put beside it.
basis_proofs contains "legal_bases.datasets" if input.dataset.name in basis.datasets

# METADATA
# title: The legal basis is open to any dataset, and the answer tells nothing about persons
# custom:
#   citation: Gateway policy 4.7, no dossier
#   owner: data protection officer
#   remedy: State a legal basis that names this dataset; what it does not name may not be put beside it.
basis_proofs contains "legal_bases.datasets" if {
	basis.datasets == null
	entry.persons == false
	count(portions.personal) == 0
}

# METADATA
# title: None is stated; the tier and the dataset say whether one is needed
# custom:
#   citation: Gateway policy 4.7, no dossier
#   owner: data protection officer
#   remedy: State a legal basis that names this dataset; what it does not name may not be put beside it.
basis_proofs contains "legal_bases.datasets" if input.legal_basis == ""
