package exchange.decision_test

import data.exchange.decision

laid(duties) := {"registry-harbour-bank": object.union(data.memoranda["registry-harbour-bank"], {"duties": duties})}

strict(duties) := {"credit-check": object.union(data.purposes["credit-check"], {"duties": duties})}

test_the_greatest_number_is_the_strictest_of_cohorts if {
	duties := decision.duties with input as asked
		with data.memoranda as laid({"smallest_cohort": 5, "delay": 60})
		with data.purposes as strict({"smallest_cohort": 20, "delay": 10})
	duties == {"smallest_cohort": {"records": 20}, "delay": {"seconds": 60}}
}

test_the_least_number_is_the_strictest_of_limits if {
	duties := decision.duties with input as asked
		with data.memoranda as laid({"limit_volume": 5, "limit_records": 9, "acknowledge": 24})
		with data.purposes as strict({"limit_volume": 20, "limit_records": 3, "acknowledge": 48})
	duties == {
		"limit_volume": {"records": 5, "per": "day"},
		"limit_records": {"records": 3},
		"acknowledge": {"within_hours": 24},
	}
}

test_the_shorter_time_of_dataset_and_catalogue_holds if {
	dated := {asked.dataset.catalogue: object.union(data.catalogue[asked.dataset.catalogue], {"retention_years": 5})}
	kept := {"dataset": {"retention": {"field": "capital", "years": 7}}}
	duties := decision.duties with input as but(kept) with data.catalogue as dated
	duties == {"retention": {"field": "capital", "years": 5}}
}

test_a_duty_that_nobody_knows_denies if {
	denials := decision.denials with input as asked with data.memoranda as laid({"sing": 1})
	"duties.known" in denials
}

test_a_group_below_the_size_of_the_dataset_is_hidden_from_who_names_nobody if {
	duties := decision.duties with input as but({"subjects": 0, "dataset": {"cohort": 7}})
	duties == {"smallest_cohort": {"records": 7}}
}

test_who_names_a_subject_gets_the_record if {
	duties := decision.duties with input as but({"subjects": 1, "dataset": {"cohort": 7}})
	duties == {}
}
