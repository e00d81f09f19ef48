"""The audit log: an RFC 6962 Merkle tree over canonical entries, in the formats of C2SP.

Pure half, without input or output, also used by the client: `tree`, `tiles`, `note`, `checkpoint`,
`proof`, `prover`, `committed`, `receipt`. Storing half: `store` (ports), `search`, `growth`
(what every engine does), `sqlite`, `sqlite_reader`, `sqlite_schema`, `postgres`, `postgres_reader`,
`postgres_rows`, `transfer` (between engines), `stores` (which engine), `writer`, `fsck`, `postgres_fsck`.
"""
