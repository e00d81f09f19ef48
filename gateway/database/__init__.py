"""PostgreSQL as several gateway nodes share it: where it is, how it is opened, what its schema is.

`address` names a database, `session` opens it and refuses one that would lose or expose the log,
`privileges` says what the gateway's role may do, `migration` brings the schema to this release's
version, `agreement` keeps all nodes on one policy and one keyring.
"""

from gateway.database.address import PostgresAddress, parse_place

__all__ = ["PostgresAddress", "parse_place"]
