"""Policy: Rego decides who gets which fields, and in what form.

`load_bundle` verifies a bundle; an engine decides by it: `EmbeddedEngine` in this process,
`gateway.policy.opa.OpaEngine` through a server (not imported here: its HTTP client costs half a second and
12 MiB); `CachedEngine` keeps decisions for a while. Whatever goes wrong is a `PolicyError`, hence a denial.
"""

from gateway.policy.bundle import Bundle, load_bundle, write_opa_directory
from gateway.policy.cache import CachedEngine
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.engine import PolicyEngine
from gateway.policy.errors import BundleError, PolicyError
from gateway.policy.obligations import TREATMENT_ORDER, strictest
from gateway.policy.policy_input import (
    DatasetFacts,
    FieldFacts,
    PartyFacts,
    PolicyInput,
    decision_id,
    encode_input,
    policy_minute,
)

__all__ = [
    "TREATMENT_ORDER",
    "Bundle",
    "BundleError",
    "CachedEngine",
    "DatasetFacts",
    "EmbeddedEngine",
    "FieldFacts",
    "PartyFacts",
    "PolicyEngine",
    "PolicyError",
    "PolicyInput",
    "decision_id",
    "encode_input",
    "load_bundle",
    "policy_minute",
    "strictest",
    "write_opa_directory",
]
