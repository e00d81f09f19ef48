package exchange.decision_test

import data.exchange.decision

test_all_facts_make_a_whole if "facts.whole" in decision.fact_proofs with input as asked

test_each_fact_is_needed if {
	lacking := {fact | some fact, _ in asked; not whole_without(fact)}
	lacking == object.keys(asked)
}

whole_without(fact) if "facts.whole" in decision.fact_proofs with input as object.remove(asked, [fact])

test_each_fact_of_the_dataset_is_needed if {
	lacking := {fact | some fact, _ in asked.dataset; not whole_without_dataset(fact)}
	lacking == object.keys(asked.dataset)
}

whole_without_dataset(fact) if {
	dataset := object.remove(asked.dataset, [fact])
	"facts.whole" in decision.fact_proofs with input as object.union(object.remove(asked, ["dataset"]), {"dataset": dataset})
}

test_a_missing_fact_is_told if {
	denials := decision.denials with input as object.remove(asked, ["signed"])
	"facts.whole" in denials
}
