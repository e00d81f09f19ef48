package exchange.decision_test

import data.exchange.decision

test_a_dataset_cites_an_entry_of_the_catalogue if "catalogue.known" in decision.catalogue_proofs with input as asked

test_an_entry_that_sets_a_time_asks_for_a_date if {
	dated := {asked.dataset.catalogue: object.union(data.catalogue[asked.dataset.catalogue], {"retention_years": 5})}
	denials := decision.denials with input as asked with data.catalogue as dated
	"catalogue.retention" in denials
}

test_a_date_that_the_dataset_does_not_have_is_none if {
	denials := decision.denials with input as but({"dataset": {"retention": {"field": "nowhere", "years": 5}}})
	"catalogue.retention" in denials
}
