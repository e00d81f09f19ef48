"""Runs before any test module is imported.

gRPC reads its TLS settings when it is imported, so they are made here, first of all.
"""

from gateway.pki.tls13 import require_tls13

require_tls13()
