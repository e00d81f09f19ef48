"""Runs before any test module is imported.

gRPC reads its TLS settings when it is imported, so they are made here, first of all. Properties are
about what holds, not about how fast: a busy machine must not make one fail.
"""

from hypothesis import HealthCheck, settings

from gateway.pki.tls13 import require_tls13

require_tls13()
settings.register_profile("sluicegate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sluicegate")
