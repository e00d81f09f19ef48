"""Contracts: terms that bind a contributor and its recipients, and where they stand.

`document`, `signing` and `comparison` are all that a client needs; nothing is imported here, so that it
gets nothing more.
"""
