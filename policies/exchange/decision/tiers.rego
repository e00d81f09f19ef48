# Sharing tiers. The tier granted is what the memorandum grants, or without one the dataset's own tier where that
# tier asks for no memorandum, never above what the purpose and the class of the member reach. (Gateway policy 5,
# sharing tiers; owner: security officer.)

package exchange.decision

# METADATA
# title: All tiers, by name
# description: A document of the data that several rules read has a name here; engines find a rule faster than data.
tiers := data.tiers

# METADATA
# title: All classes of members, by name
classes := data.member_classes

# METADATA
# title: The dataset's own tier
dataset_tier := tiers[input.dataset.tier]

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
# title: The rank of the tier granted, the highest on offer that purpose and class of member reach
granted_rank := max(reachable) if {
	highest := offered_rank
	reachable := {tier.rank |
		some name in purpose.tiers
		tier := tiers[name]
		tier.rank <= highest
		input.consumer.class in tier.member_classes
	}
	count(reachable) > 0
}

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
# title: The dataset's tier is one of the tiers agreed on
# custom:
#   citation: Gateway policy 5.1
#   owner: security officer
#   remedy: Ask the provider to classify the dataset.
tier_proofs contains "tiers.known" if dataset_tier

# METADATA
# title: The classes of both members are known
# custom:
#   citation: Gateway policy 5.2
#   owner: security officer
#   remedy: Ask the operator to register both members under a class that the policy knows.
tier_proofs contains "tiers.classes" if {
	classes[input.consumer.class]
	classes[input.provider.class]
}

# METADATA
# title: Members of this class reach the dataset's tier
# custom:
#   citation: Gateway policy 5.3
#   owner: security officer
#   remedy: Ask for a dataset at a tier that is open to your class of member.
tier_proofs contains "tiers.member_class" if input.consumer.class in dataset_tier.member_classes

# METADATA
# title: The tier takes unsigned queries
# custom:
#   citation: Gateway policy 5.4
#   owner: security officer
#   remedy: Sign the query with a key that is registered under your member.
tier_proofs contains "tiers.signature" if requirements.signature == false

# METADATA
# title: The query is signed
# custom:
#   citation: Gateway policy 5.4
#   owner: security officer
#   remedy: Sign the query with a key that is registered under your member.
tier_proofs contains "tiers.signature" if input.signed == true

# METADATA
# title: A memorandum is stated
# custom:
#   citation: Gateway policy 5.5
#   owner: legal department
#   remedy: State the memorandum under which you ask.
tier_proofs contains "tiers.memorandum" if input.memorandum != ""

# METADATA
# title: The dataset's tier asks for no memorandum
# custom:
#   citation: Gateway policy 5.5
#   owner: legal department
#   remedy: State the memorandum under which you ask.
tier_proofs contains "tiers.memorandum" if dataset_tier.memorandum == false

# METADATA
# title: What is on offer reaches the dataset's tier
# custom:
#   citation: Gateway policy 5.6
#   owner: legal department
#   remedy: Agree on a memorandum that grants the dataset's tier.
tier_proofs contains "tiers.reach" if offered_rank >= dataset_tier.rank

# METADATA
# title: A tier is granted
# custom:
#   citation: Gateway policy 5.7
#   owner: security officer
#   remedy: Ask for a dataset at a tier that your purpose and your class of member reach.
tier_proofs contains "tiers.granted" if granted
