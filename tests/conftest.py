"""Runs before any test module is imported.

gRPC reads its settings when it is imported, so they are made here, first of all: TLS, and that a child
which `subprocess` forks to run under another account does not go on with gRPC's threads, which it lacks.
Properties are about what holds, not about how fast: a busy machine must not make one fail.
"""

import os

from hypothesis import HealthCheck, settings

from gateway.pki.tls13 import require_tls13

require_tls13()
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
settings.register_profile("sluicegate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sluicegate")
