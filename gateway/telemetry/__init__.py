"""Logs and metrics for operators. Neither is evidence: that is the audit log's work."""
