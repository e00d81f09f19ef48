"""The provider's side: a holder's databases and files, as sources of records.

`order` and `delivery` are what passes between gateway and provider; they are pure. `mapping` says
which columns may be read; `opening` turns a mapping into sources; `sql` reads.
"""
