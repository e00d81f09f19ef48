"""Signed statements: canonical JSON, keys, DSSE envelopes, receipts."""
