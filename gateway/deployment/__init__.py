"""Making and changing a deployment's files: what `gateway init` and `gateway member` do."""

from gateway.deployment.changes import record_change
from gateway.deployment.layout import Deployment, initialise
from gateway.deployment.onboarding import (
    MemberFiles,
    add_member,
    change_endpoint,
    change_state,
    confirm_member,
    export_trust,
    register_key,
    revoke_key,
)

__all__ = [
    "Deployment",
    "MemberFiles",
    "add_member",
    "change_endpoint",
    "change_state",
    "confirm_member",
    "export_trust",
    "initialise",
    "record_change",
    "register_key",
    "revoke_key",
]
