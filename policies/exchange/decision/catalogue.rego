# Catalogue. Only what a published catalogue lists may be recorded; a dataset cites its entry, and keeps what the
# entry says. (Gateway policy 8, lawful records; owner: legal department.)

package exchange.decision

# METADATA
# title: The catalogue entry that the dataset cites
entry := data.catalogue[input.dataset.catalogue]

# METADATA
# title: The dataset cites an entry of the catalogue
# custom:
#   citation: Gateway policy 8.1
#   owner: legal department
#   remedy: Ask the provider to cite the catalogue entry under which the records are kept.
catalogue_proofs contains "catalogue.known" if entry

# METADATA
# title: The dataset is of the class that its entry allows
# custom:
#   citation: Gateway policy 8.2
#   owner: legal department
#   remedy: Ask the provider to describe the dataset as the class that its catalogue entry allows.
catalogue_proofs contains "catalogue.class" if input.dataset.class == entry.class

# METADATA
# title: The entry sets no time after which records are no longer given out, and neither does the dataset
# custom:
#   citation: Gateway policy 8.3
#   owner: data protection officer
#   remedy: Ask the provider to describe from which date on, and for how many years, a record may be given out.
catalogue_proofs contains "catalogue.retention" if {
	entry.retention_years == null
	input.dataset.retention == null
}

# METADATA
# title: The dataset says from which date on, and for how many years, a record may be given out
# custom:
#   citation: Gateway policy 8.3
#   owner: data protection officer
#   remedy: Ask the provider to describe from which date on, and for how many years, a record may be given out.
catalogue_proofs contains "catalogue.retention" if {
	input.dataset.fields[input.dataset.retention.field]
	input.dataset.retention.years > 0
}
