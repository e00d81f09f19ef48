"""The use case: one exchange. Read `service` from top to bottom, then `steps`."""
