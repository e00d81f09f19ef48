"""What contributors see of the use of their records: usage, monthly statements, notices.

Everything is counted from the log's entries, and from nothing else. See docs/usage.md.
"""
