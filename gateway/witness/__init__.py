"""Witnessing (c2sp.org/tlog-witness): cosigning the checkpoints of other logs, and having ours cosigned.

Pure: `submission` (the request's text), `judgement` (what a witness may cosign). Serving side: `state`
(SQLite, never forgets a checkpoint it has cosigned), `witness`, `server`, `deployment`. Asking side:
`client`.
"""
