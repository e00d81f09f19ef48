# Facts. The verified facts that the gateway hands over. Where one is missing, nothing is allowed. (Gateway policy
# 1, completeness of facts; owner: security officer.)

package exchange.decision

# METADATA
# title: Every fact is there; the gateway has verified their types
# custom:
#   citation: Gateway policy 1.1
#   owner: security officer
#   remedy: Report this to the operator; the gateway and the policy bundle do not fit together.
fact_proofs contains "facts.whole" if {
	facts := {
		"capabilities", "consumer", "contract", "dataset", "document", "fields", "legal_basis", "memorandum", "operation",
		"provider", "purpose", "reads", "signed", "subjects", "time",
	}
	count(facts - object.keys(input)) == 0
	count({"id", "class"} - object.keys(input.consumer)) == 0
	count({"id", "class"} - object.keys(input.provider)) == 0
	described := {"catalogue", "class", "cohort", "contract", "fields", "name", "owner", "retention", "tier"}
	count(described - object.keys(input.dataset)) == 0
}
