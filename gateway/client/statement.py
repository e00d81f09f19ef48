"""Making and signing query statements."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from gateway.clock import Clock, rfc3339
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.model import Actor, Operation, Query, Subject

QUERY_TYPE = dsse.payload_type("query")


def new_nonce() -> str:
    """Return 16 random bytes as base64url without padding."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


def build_query(
    audience: str,
    operation: Operation,
    dataset: str,
    purpose: str,
    *,
    clock: Clock,
    subjects: Sequence[Subject] = (),
    filters: Mapping[str, str] | None = None,
    fields: Sequence[str] = (),
    legal_basis: str = "",
    memorandum: str = "",
    contract: str = "",
    document: str = "",
    match: Mapping[str, str] | None = None,
    actor: Actor | None = None,
    at_least: int | None = None,
) -> Query:
    """Return a query statement made now, with a fresh nonce."""
    return Query(
        audience=audience,
        operation=operation,
        dataset=dataset,
        purpose=purpose,
        nonce=new_nonce(),
        time=rfc3339(clock()),
        subjects=tuple(subjects),
        filters=dict(filters or {}),
        fields=tuple(fields),
        legal_basis=legal_basis,
        memorandum=memorandum,
        # Left out where none is stated: gateways that know no contracts understand the statement.
        contract=contract or msgspec.UNSET,
        document=document,
        match=dict(match or {}),
        actor=actor,
        at_least=msgspec.UNSET if at_least is None else at_least,
    )


def seal_query(query: Query, key: SigningKey | None) -> dsse.Envelope:
    """Return the envelope of `query`, signed unless `key` is None."""
    return dsse.sign(encode_canonical(query), QUERY_TYPE, [key] if key is not None else [])
