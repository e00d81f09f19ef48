# Sharing tiers. The tier granted is what the memorandum grants, or without one the dataset's own tier where
# that tier asks for no memorandum, never above what the purpose and the class of the member reach. (Gateway
# policy 5, sharing tiers; owner: security officer.)

package exchange.decision

# METADATA
# title: All tiers, by name
tiers := data.tiers

# METADATA
# title: All classes of members, by name
classes := data.member_classes

# METADATA
# title: The dataset's own tier
dataset_tier := tiers[input.dataset.tier]

# METADATA
# title: The classes of both members are known
classes_known if {
	classes[input.consumer.class]
	classes[input.provider.class]
}

# METADATA
# title: Members of this class reach the dataset's tier
tier_open_to_class if input.consumer.class in dataset_tier.member_classes

# METADATA
# title: Without a memorandum, the dataset's own tier is on offer if it asks for none
offered_rank := dataset_tier.rank if {
	input.memorandum == ""
	dataset_tier.memorandum == false
}

# METADATA
# title: Under a memorandum, the tier that it grants is on offer
offered_rank := tiers[memorandum.tier].rank if memorandum_usable

# METADATA
# title: What is on offer reaches the dataset's tier
offered_reaches_dataset if offered_rank >= dataset_tier.rank

# METADATA
# title: The tiers on offer that purpose and class of member reach
reachable_ranks contains tier.rank if {
	some name in purpose.tiers
	tier := tiers[name]
	tier.rank <= offered_rank
	input.consumer.class in tier.member_classes
}

# METADATA
# title: The rank of the tier granted
granted_rank := max(reachable_ranks) if count(reachable_ranks) > 0

# METADATA
# title: The tier granted
granted := data.tier_names[granted_rank]

# METADATA
# title: What the tier granted asks for
requirements := tiers[granted]

# METADATA
# title: While no tier is granted, what the dataset's own tier asks for
requirements := dataset_tier if not granted

# METADATA
# title: The tier takes unsigned queries
signed_enough if requirements.signature == false

# METADATA
# title: The query is signed
signed_enough if input.signed == true

# METADATA
# title: A memorandum is stated
memorandum_enough if input.memorandum != ""

# METADATA
# title: The tier asks for no memorandum
memorandum_enough if dataset_tier.memorandum == false

# METADATA
# title: A tier is granted and its requirements are met
tier_permits if {
	granted
	offered_reaches_dataset
	classes_known
	tier_open_to_class
	signed_enough
	memorandum_enough
}

# METADATA
# title: The dataset's tier is not one of the tiers agreed on
# custom:
#   citation: Gateway policy 5.1
#   owner: security officer
#   remedy: Ask the provider to classify the dataset.
denials contains {"rule": "tiers.unknown", "reason": "TIER_UNKNOWN"} if not dataset_tier

# METADATA
# title: The class of a member is not known
# custom:
#   citation: Gateway policy 5.2
#   owner: security officer
#   remedy: Ask the operator to register both members under a class that the policy knows.
denials contains {"rule": "tiers.classes", "reason": "MEMBER_CLASS_NOT_PERMITTED"} if not classes_known

# METADATA
# title: Members of this class do not reach the dataset's tier
# custom:
#   citation: Gateway policy 5.3
#   owner: security officer
#   remedy: Ask for a dataset at a tier that is open to your class of member.
denials contains {"rule": "tiers.member_class", "reason": "MEMBER_CLASS_NOT_PERMITTED"} if {
	dataset_tier
	not tier_open_to_class
}

# METADATA
# title: The tier takes signed queries only
# custom:
#   citation: Gateway policy 5.4
#   owner: security officer
#   remedy: Sign the query with a key that is registered under your member.
denials contains {"rule": "tiers.signature", "reason": "SIGNATURE_REQUIRED"} if {
	requirements
	not signed_enough
}

# METADATA
# title: The dataset's tier asks for a memorandum and none is stated
# custom:
#   citation: Gateway policy 5.5
#   owner: legal department
#   remedy: State the memorandum under which you ask.
denials contains {"rule": "tiers.memorandum", "reason": "MEMORANDUM_MISSING"} if {
	dataset_tier
	not memorandum_enough
}

# METADATA
# title: The memorandum does not reach the dataset's tier
# custom:
#   citation: Gateway policy 5.6
#   owner: legal department
#   remedy: Agree on a memorandum that grants the dataset's tier.
denials contains {"rule": "tiers.reach", "reason": "MEMORANDUM_NOT_APPLICABLE"} if {
	dataset_tier
	memorandum_usable
	not offered_reaches_dataset
}
