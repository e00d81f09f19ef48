# Purposes. Records are given for a purpose that all agreed on, to those who may state it, for data that may
# serve it. (Gateway policy 2, limitation of purpose; owner: data protection officer.)

package exchange.decision

# METADATA
# title: The purpose stated
purpose := data.purposes[input.purpose]

# METADATA
# title: The purpose may be stated by members of this class
purpose_open_to_class if input.consumer.class in purpose.member_classes

# METADATA
# title: The purpose may be served by datasets of this class
purpose_open_to_dataset_class if input.dataset.class in purpose.dataset_classes

# METADATA
# title: The purpose reaches the tier of the dataset
purpose_reaches_dataset if input.dataset.tier in purpose.tiers

# METADATA
# title: The purpose may be pursued in this way
purpose_open_to_operation if input.operation in purpose.operations

# METADATA
# title: The purpose leads to no measure, so scores do no harm
scores_kept_out if purpose.enforcement == false

# METADATA
# title: The dataset holds no scores
scores_kept_out if input.dataset.class != "score"

# METADATA
# title: The purpose carries the exchange
purpose_permits if {
	purpose_open_to_class
	purpose_open_to_dataset_class
	purpose_reaches_dataset
	purpose_open_to_operation
	scores_kept_out
}

# METADATA
# title: The purpose is not one of those agreed on
# custom:
#   citation: Gateway policy 2.1
#   owner: data protection officer
#   remedy: State one of the purposes in the catalogue.
denials contains {"rule": "purposes.unknown", "reason": "PURPOSE_UNKNOWN"} if not purpose

# METADATA
# title: Members of this class may not state this purpose
# custom:
#   citation: Gateway policy 2.2
#   owner: data protection officer
#   remedy: State a purpose that is open to your class of member.
denials contains {"rule": "purposes.member_class", "reason": "PURPOSE_NOT_PERMITTED"} if {
	purpose
	not purpose_open_to_class
}

# METADATA
# title: Datasets of this class may not serve this purpose
# custom:
#   citation: Gateway policy 2.3
#   owner: data protection officer
#   remedy: Ask for a dataset whose class the purpose allows.
denials contains {"rule": "purposes.dataset_class", "reason": "PURPOSE_NOT_PERMITTED"} if {
	purpose
	not purpose_open_to_dataset_class
}

# METADATA
# title: The purpose does not reach the tier of the dataset
# custom:
#   citation: Gateway policy 2.4
#   owner: data protection officer
#   remedy: Ask for a dataset at a tier that the purpose allows.
denials contains {"rule": "purposes.tier", "reason": "PURPOSE_NOT_PERMITTED"} if {
	purpose
	not purpose_reaches_dataset
}

# METADATA
# title: The purpose may not be pursued in this way
# custom:
#   citation: Gateway policy 2.5
#   owner: data protection officer
#   remedy: Use an operation that the purpose allows, such as a query for named subjects in place of a bulk answer.
denials contains {"rule": "purposes.operation", "reason": "OPERATION_NOT_PERMITTED"} if {
	purpose
	not purpose_open_to_operation
}

# METADATA
# title: A score never serves enforcement
# custom:
#   citation: Gateway policy 2.6
#   owner: data protection officer
#   remedy: Ask for the records themselves; a score cannot be had for this purpose.
denials contains {"rule": "purposes.score", "reason": "SCORE_NOT_PERMITTED"} if {
	purpose
	not scores_kept_out
}
