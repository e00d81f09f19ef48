"""Time-stamping the log's checkpoints by a foreign authority (RFC 3161).

A checkpoint's own time is the operator's word. A token of a time-stamping authority over it shows that
all its entries were there at the authority's time. It is added evidence: without it nothing stops.
"""
