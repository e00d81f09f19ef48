"""Sluicegate: a gateway for records that cross an organisational border."""

__version__ = "0.1.0"
