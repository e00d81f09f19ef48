# Purposes. Records are given for a purpose that all agreed on, to those who may state it, for data that may serve
# it. (Gateway policy 2, limitation of purpose; owner: data protection officer.)

package exchange.decision

# METADATA
# title: The purpose stated
purpose := data.purposes[input.purpose]

# METADATA
# title: The purpose is one of those agreed on
# custom:
#   citation: Gateway policy 2.1
#   owner: data protection officer
#   remedy: State one of the purposes in the catalogue.
purpose_proofs contains "purposes.known" if purpose

# METADATA
# title: Members of this class may state the purpose
# custom:
#   citation: Gateway policy 2.2
#   owner: data protection officer
#   remedy: State a purpose that is open to your class of member.
purpose_proofs contains "purposes.member_class" if input.consumer.class in purpose.member_classes

# METADATA
# title: Datasets of this class may serve the purpose
# custom:
#   citation: Gateway policy 2.3
#   owner: data protection officer
#   remedy: Ask for a dataset whose class the purpose allows.
purpose_proofs contains "purposes.dataset_class" if input.dataset.class in purpose.dataset_classes

# METADATA
# title: The purpose reaches the tier of the dataset
# custom:
#   citation: Gateway policy 2.4
#   owner: data protection officer
#   remedy: Ask for a dataset at a tier that the purpose allows.
purpose_proofs contains "purposes.tier" if input.dataset.tier in purpose.tiers

# METADATA
# title: The purpose may be pursued in this way
# custom:
#   citation: Gateway policy 2.5
#   owner: data protection officer
#   remedy: Use an operation that the purpose allows, such as a query for named subjects in place of a bulk answer.
purpose_proofs contains "purposes.operation" if input.operation in purpose.operations

# METADATA
# title: No score serves enforcement, for the purpose leads to no measure
# custom:
#   citation: Gateway policy 2.6
#   owner: data protection officer
#   remedy: Ask for the records themselves; a score cannot be had for this purpose.
purpose_proofs contains "purposes.score" if purpose.enforcement == false

# METADATA
# title: No score serves enforcement, for the dataset holds none
# custom:
#   citation: Gateway policy 2.6
#   owner: data protection officer
#   remedy: Ask for the records themselves; a score cannot be had for this purpose.
purpose_proofs contains "purposes.score" if input.dataset.class != "score"

# METADATA
# title: No score goes to anybody but its owner, for the dataset holds none
# custom:
#   citation: Gateway policy 2.7
#   owner: data protection officer
#   remedy: Ask for the records themselves; a score is given to the member that it is made for alone.
purpose_proofs contains "purposes.owner" if input.dataset.class != "score"

# METADATA
# title: No score goes to anybody but its owner, and the owner asks
# custom:
#   citation: Gateway policy 2.7
#   owner: data protection officer
#   remedy: Ask for the records themselves; a score is given to the member that it is made for alone.
purpose_proofs contains "purposes.owner" if input.consumer.id == input.dataset.owner

# METADATA
# title: The purpose asks for no official document
# custom:
#   citation: Gateway policy 2.8
#   owner: legal department
#   remedy: Cite the official document (order, warrant, consent) in a signed query.
purpose_proofs contains "purposes.document" if purpose.document == false

# METADATA
# title: An official document is cited over a signature
# custom:
#   citation: Gateway policy 2.8
#   owner: legal department
#   remedy: Cite the official document (order, warrant, consent) in a signed query.
purpose_proofs contains "purposes.document" if {
	input.document != ""
	input.signed == true
}

# METADATA
# title: The purpose does not limit how many subjects a query names
# custom:
#   citation: Gateway policy 2.9
#   owner: data protection officer
#   remedy: Name at least one subject, and no more than the purpose allows.
purpose_proofs contains "purposes.subjects" if purpose.subjects == null

# METADATA
# title: The query names at least one subject, and no more than the purpose allows
# custom:
#   citation: Gateway policy 2.9
#   owner: data protection officer
#   remedy: Name at least one subject, and no more than the purpose allows.
purpose_proofs contains "purposes.subjects" if {
	input.subjects >= 1
	input.subjects <= purpose.subjects
}
