# Contracts. Records that a company contributes are given under its contract alone: to those, for what, and as far as
# it says. A contract only ever narrows what the other chapters grant. (Gateway policy 10, contributions under contract;
# owner: legal department.)

package exchange.decision

# METADATA
# title: The contract under which records of the dataset are asked for; the gateway has verified that it is in force
contract := input.contract if is_object(input.contract)

# METADATA
# title: Without a contract there are no terms for fields
default terms := {}

# METADATA
# title: What the contract says of fields of the dataset
terms := contract.fields if is_object(contract.fields)

# METADATA
# title: The dataset asks for no contract
# custom:
#   citation: Gateway policy 10.1
#   owner: legal department
#   remedy: State a contract in force that covers the dataset; its contributor says which there are.
contract_proofs contains "contracts.stated" if input.dataset.contract == ""

# METADATA
# title: Its contributor has given the dataset under a contract
# custom:
#   citation: Gateway policy 10.1
#   owner: legal department
#   remedy: State a contract in force that covers the dataset; its contributor says which there are.
contract_proofs contains "contracts.stated" if {
	input.provider.id == contract.contributor
	agreed := {
		"contributor", "fields", "id", "name", "onward_sharing", "parties", "purposes", "recipients",
		"valid_from", "valid_until", "version",
	}
	count(agreed - object.keys(contract)) == 0
}

# METADATA
# title: There is no contract; the dataset says whether one is needed
# custom:
#   citation: Gateway policy 10.2
#   owner: legal department
#   remedy: Wait until the contract begins, or have it renewed.
contract_proofs contains "contracts.period" if input.contract == null

# METADATA
# title: The contract has begun and has not ended
# custom:
#   citation: Gateway policy 10.2
#   owner: legal department
#   remedy: Wait until the contract begins, or have it renewed.
contract_proofs contains "contracts.period" if {
	contract.valid_from <= input.time
	input.time < contract.valid_until
}

# METADATA
# title: There is no contract; the dataset says whether one is needed
# custom:
#   citation: Gateway policy 10.3
#   owner: legal department
#   remedy: Ask for a purpose that the contract names.
contract_proofs contains "contracts.purpose" if input.contract == null

# METADATA
# title: The contract names the purpose
# custom:
#   citation: Gateway policy 10.3
#   owner: legal department
#   remedy: Ask for a purpose that the contract names.
contract_proofs contains "contracts.purpose" if input.purpose in contract.purposes

# METADATA
# title: There is no contract; the dataset says whether one is needed
# custom:
#   citation: Gateway policy 10.4
#   owner: legal department
#   remedy: Agree with the contributor on a contract under which your member receives.
contract_proofs contains "contracts.recipient" if input.contract == null

# METADATA
# title: The contract names the consumer
# custom:
#   citation: Gateway policy 10.4
#   owner: legal department
#   remedy: Agree with the contributor on a contract under which your member receives.
contract_proofs contains "contracts.recipient" if input.consumer.id in contract.recipients.members

# METADATA
# title: The contract names all members of the consumer's class
# custom:
#   citation: Gateway policy 10.4
#   owner: legal department
#   remedy: Agree with the contributor on a contract under which your member receives.
contract_proofs contains "contracts.recipient" if input.consumer.class in contract.recipients.classes

# METADATA
# title: The contract leaves something of every field named
# custom:
#   citation: Gateway policy 10.5
#   owner: legal department
#   remedy: Leave the field out; the contract does not give it.
contract_proofs contains "contracts.fields" if count(portions.withdrawn) == 0

# METADATA
# title: How much each way of coarsening a date takes away
coarseness := {"month": 1, "year": 2, "decade": 3}

# METADATA
# title: Of two ways of coarsening dates, the one that leaves less
coarser(one, other) := one if coarseness[one] >= coarseness[other]

# METADATA
# title: Of two ways of coarsening dates, the one that leaves less
coarser(one, other) := other if coarseness[other] >= coarseness[one]

# METADATA
# title: Of two ways of coarsening numbers the one with the wider bands, if they consist of whole bands of the other
coarser(one, other) := one if band_width(one) % band_width(other) == 0

# METADATA
# title: Of two ways of coarsening numbers the one with the wider bands, if they consist of whole bands of the other
coarser(one, other) := other if band_width(other) % band_width(one) == 0

# METADATA
# title: Of two equal ways of coarsening, either; of others that are not told above nothing is known
coarser(one, other) := one if one == other

# METADATA
# title: How wide the bands are into which numbers are put
band_width(method) := to_number(split(method, ":")[1]) if startswith(method, "band:")

# METADATA
# title: Of two masks, the one that leaves no more than either
# description: >-
#   A mask hides a text whole that is shorter than twice what it keeps. One that keeps less would show something of
#   such a text, so the longest such length goes with it.
joint_mask(one, other) := {
	"keep_first": min([one.keep_first, other.keep_first]),
	"keep_last": min([one.keep_last, other.keep_last]),
	"shortest": max([2 * (one.keep_first + one.keep_last), 2 * (other.keep_first + other.keep_last)]),
}
