"""The OPA engine: Rego in an OPA server beside the gateway, through `opa_client`."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import aiohttp
import msgspec

from gateway.errors import ConfigError, Reason
from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.conformance import verify_conformance
from gateway.policy.engine import ENTRY_POINT
from gateway.policy.errors import PolicyError
from gateway.policy.opa_session import BoundedOpaClient, tls_context
from gateway.policy.policy_input import PolicyInput, decision_id, encode_input
from gateway.policy.result import decode_result

MAX_TIMEOUT_S: Final = 1.0
"""A decision is had or refused within this time."""

_DEFAULT_PORT: Final = 8181
_VERSION: Final = re.compile(r"[0-9A-Za-z.+-]{1,40}", re.ASCII)
_MAX_TOKEN_BYTES: Final = 16 * 1024
# Without it a failing built-in function is undefined in OPA, and an error in the embedded engine.
_STRICT: Final = {"strict-builtin-errors": "true"}
_UNAVAILABLE_STATUS: Final = frozenset({401, 403, 404, 429, 502, 503, 504})


class OpaEngine:
    """Asks an OPA server that holds the same bundle; `write_opa_directory` makes what it is to serve.

    `url` is `http://` on loopback or `https://` anywhere. `timeout_s` (at most 1 s) bounds each decision as a
    whole. `token_file` holds a bearer token, `ca_file` (PEM) the authority of the server's certificate.
    What is asked at the start may take 1 s each. Each answer names the bundle that decided; one of another
    bundle is refused (`POLICY_STALE`).
    """

    def __init__(
        self,
        bundle: Bundle,
        url: str,
        timeout_s: float = 0.25,
        token_file: Path | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self.bundle = bundle
        self.name = "opa"
        self._host, self._port, self._encrypted = _parse_url(url)
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise ConfigError(
                f"The time-out of the OPA server must lie above 0 and at most at {MAX_TIMEOUT_S} s."
            )
        self._timeout_s = timeout_s
        self._token_file = token_file
        self._ca_file = ca_file
        self._client: BoundedOpaClient | None = None

    async def start(self) -> None:
        """Connect, see that the server holds this bundle, and prove it; raise `PolicyError` if not."""
        if self._client is not None:
            raise PolicyError("The OPA engine is started already.")
        client = BoundedOpaClient(self._host, self._port, MAX_TIMEOUT_S, self._read_token(), self._make_tls())
        await client.__aenter__()
        self._client = client
        try:
            held = msgspec.json.decode(await self.evaluate("bundle.digest", b"{}"))
            if held != self.bundle.digest:
                _raise_stale()
            await verify_conformance(self, self.bundle)
            self.name = f"opa {await self._read_version()}"
        except BaseException:
            await self.close()
            raise

    async def decide(self, policy_input: PolicyInput) -> Decision:
        """Return the decision on `policy_input`; raise `PolicyError` if none can be had in time."""
        encoded = encode_input(policy_input)
        result = await self._ask(ENTRY_POINT, encoded, self._timeout_s)
        return decode_result(result, self.bundle, decision_id(self.bundle.digest, encoded), self.name)

    async def evaluate(self, document: str, encoded_input: bytes) -> bytes:
        """Return `data.<document>` on the JSON input `encoded_input`, as JSON; raise `PolicyError`."""
        return await self._ask(document, encoded_input, MAX_TIMEOUT_S)

    async def _ask(self, document: str, encoded_input: bytes, timeout_s: float) -> bytes:
        if self._client is None:
            raise PolicyError("The OPA engine is not started.", reason=Reason.POLICY_UNAVAILABLE)
        facts = msgspec.json.decode(encoded_input)
        try:
            async with asyncio.timeout(timeout_s):
                answer: Any = await self._client.query_rule(facts, document, query_params=_STRICT)
            result = msgspec.json.encode(answer["result"]) if "result" in answer else None
        except Exception as fault:  # noqa: BLE001 - whatever the client raises denies this exchange, by its reason
            _raise_as_policy_error(fault)
        if result is None:
            raise PolicyError(
                "The OPA server gives no answer on this exchange. The operator must load this gateway's "
                "bundle into it.",
                reason=Reason.POLICY_UNDEFINED,
            )
        return result

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close_connection()

    async def _read_version(self) -> str:
        """Return the version that the server says it has; decisions name it."""
        try:
            answer = await self.evaluate("system.version.version", b"{}")
        except PolicyError as fault:
            if fault.reason is Reason.POLICY_UNDEFINED:
                return "of unknown version"
            raise
        version = msgspec.json.decode(answer)
        return version if isinstance(version, str) and _VERSION.fullmatch(version) else "of unknown version"

    def _read_token(self) -> str | None:
        if self._token_file is None:
            return None
        try:
            token = self._token_file.read_bytes()[:_MAX_TOKEN_BYTES].decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as fault:
            raise ConfigError("The token file of the OPA server cannot be read as ASCII text.") from fault
        if not token.isprintable() or not token or " " in token:
            raise ConfigError("The token file of the OPA server must hold one token and nothing else.")
        return token

    def _make_tls(self) -> ssl.SSLContext | None:
        if not self._encrypted:
            return None
        try:
            return tls_context(None if self._ca_file is None else str(self._ca_file))
        except (OSError, ssl.SSLError) as fault:
            raise ConfigError(
                "The authority file of the OPA server cannot be read as PEM certificates."
            ) from fault


def _parse_url(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether TLS is used; raise `ConfigError` if `url` is not one we may use."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
    except ValueError as fault:
        raise ConfigError("The URL of the OPA server is not valid.") from fault
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or parts.username
        or parts.path.strip("/")
        or parts.query
    ):
        raise ConfigError("The URL of the OPA server must be of the form https://HOST:PORT.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(
            "An OPA server on another machine is asked over https only: who sits between could allow all."
        )
    return (f"[{host}]" if ":" in host else host), port, parts.scheme == "https"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _raise_as_policy_error(fault: Exception) -> NoReturn:
    if isinstance(fault, TimeoutError):
        raise PolicyError(
            "The OPA server did not decide in time. Ask again in a moment.", reason=Reason.POLICY_TIMEOUT
        ) from fault
    if isinstance(fault, aiohttp.ClientResponseError) and fault.status in _UNAVAILABLE_STATUS:
        raise PolicyError(
            "The OPA server refuses to decide. The operator must look at its access rules and its load.",
            reason=Reason.POLICY_UNAVAILABLE,
            status=fault.status,
        ) from fault
    if isinstance(fault, aiohttp.ClientConnectionError):
        raise PolicyError(
            "The OPA server cannot be reached. Ask again in a moment.", reason=Reason.POLICY_UNAVAILABLE
        ) from fault
    raise PolicyError(
        "The OPA server failed on this exchange, or its answer cannot be read. Report this to the operator."
    ) from fault


def _raise_stale() -> NoReturn:
    raise PolicyError(
        "The OPA server holds another policy bundle than this gateway. The operator must load the same "
        "into both.",
        reason=Reason.POLICY_STALE,
    )
