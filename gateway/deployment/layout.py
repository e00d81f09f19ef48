"""A deployment's folder: what stands where, and how a new one is made.

config.toml         settings of `gateway serve`
trust.json          public keys, for everybody who verifies
catalogue/          dataset descriptions (ODCS 3.1)
policies/           the policy: Rego, data, golden cases
data/               audit.db, audit-ledger.db, audit-usage.db, members.db, contracts.db, vault.db
keys/   (0700)      gateway.key log.key keyring.json page-tokens.key disclosure.key blind-index.key
                    corrections.key vault.key vault-signing.key tls.key ca.key
tls/                ca.pem gateway.pem
members/<id>/       what a member gets: certificate, keys, client.toml, trust.json
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.audit.note import Ed25519Signer
from gateway.audit.stores import open_store, require_file_log
from gateway.audit.writer import AuditLog
from gateway.clock import Clock, system_clock
from gateway.config import ORIGIN_PATTERN, GatewayConfig
from gateway.deployment.onboarding import export_trust
from gateway.deployment.shipped import shipped_policies
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey, write_secret
from gateway.members import SqliteMemberStore
from gateway.pki.authority import CertificateAuthority
from gateway.pseudonym import Keyring

AUTHORITY_DAYS: Final = 3650
GATEWAY_DAYS: Final = 398
"""A little over a year: the longest that public authorities allow, too."""

TRUST_DOMAIN: Final = "sluicegate"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Paths of a deployment."""

    directory: Path

    @property
    def config(self) -> Path:
        """The gateway's settings."""
        return self.directory / "config.toml"

    @property
    def trust(self) -> Path:
        """The public keys that receipts are verified with."""
        return self.directory / "trust.json"

    @property
    def authority(self) -> tuple[Path, Path]:
        """Certificate and key of the deployment's own certificate authority."""
        return self.directory / "tls" / "ca.pem", self.directory / "keys" / "ca.key"

    def load(self) -> GatewayConfig:
        """Read the settings; raise `ConfigError`."""
        return GatewayConfig.load(self.config)


def gateway_uri(domain: str = TRUST_DOMAIN) -> str:
    """Return the URI that names the gateway in its certificate."""
    return f"spiffe://{domain}/gateway"


def member_uri(member: str, domain: str = TRUST_DOMAIN) -> str:
    """Return the URI that names a member in its certificate."""
    return f"spiffe://{domain}/members/{member}"


def initialise(
    directory: Path,
    *,
    origin: str,
    hosts: Sequence[str] = ("localhost",),
    addresses: Sequence[str] = ("127.0.0.1",),
    listen: str = "127.0.0.1:7443",
    metrics_port: int = 9464,
    reflection: bool = False,
    clock: Clock = system_clock,
) -> Deployment:
    """Make a deployment in `directory`, which must be empty or not exist.

    `origin` names the log for ever; `hosts` and `addresses` are those clients connect to.
    Raises `ConfigError`.
    """
    if re.fullmatch(ORIGIN_PATTERN, origin) is None:
        raise ConfigError(
            "The log's origin is a URL without its scheme, in lower case, with at least one part after the "
            "host; for example audit.example.org/log/2026."
        )
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty; a deployment needs a folder of its own.")
    for name, mode in (("keys", 0o700), ("data", 0o700), ("tls", 0o755), ("members", 0o700)):
        (directory / name).mkdir(parents=True, mode=mode)
    deployment = Deployment(directory)
    _make_keys(deployment, hosts, addresses, clock)
    shutil.copytree(
        shipped_policies(), directory / "policies", ignore=shutil.ignore_patterns("datasets", "__pycache__")
    )
    catalogue = directory / "catalogue"
    catalogue.mkdir()
    for description in sorted((shipped_policies() / "datasets").glob("*.yaml")):
        shutil.copy(description, catalogue)
    deployment.config.write_text(
        _CONFIG.format(
            origin=origin,
            listen=listen,
            metrics_port=metrics_port,
            reflection=str(reflection).lower(),
        )
    )
    config = deployment.load()
    SqliteMemberStore.create(require_file_log(config.members.database, "`gateway init`"))
    signer = Ed25519Signer(origin, SigningKey.load(config.log.key))
    AuditLog(open_store(config.log.database), signer, origin=origin, clock=clock).close()
    deployment.trust.write_bytes(export_trust(config).to_json())
    return deployment


def _make_keys(deployment: Deployment, hosts: Sequence[str], addresses: Sequence[str], clock: Clock) -> None:
    keys, tls = deployment.directory / "keys", deployment.directory / "tls"
    authority = CertificateAuthority.create("Sluicegate members", AUTHORITY_DAYS, clock=clock)
    authority.save(*deployment.authority)
    issued = authority.issue("gateway", uri=gateway_uri(), dns=hosts, ips=addresses, valid_days=GATEWAY_DAYS)
    issued.save(tls / "gateway.pem", keys / "tls.key")
    for name in ("gateway.key", "log.key", "vault-signing.key"):
        write_secret(keys / name, SigningKey.generate().to_pem())
    for name in ("page-tokens.key", "disclosure.key", "blind-index.key", "corrections.key", "vault.key"):
        write_secret(keys / name, secrets.token_bytes(32))
    Keyring.generate(clock()).save(keys / "keyring.json")


_CONFIG: Final = """\
# Settings of `gateway serve`. Check them with `gateway config check --config config.toml`.
# Environment variables SLUICEGATE_<SECTION>__<NAME> stand over this file.
catalogue = "catalogue"

[server]
listen = "{listen}"
# Lets tools such as grpcurl ask for the API's description.
reflection = {reflection}

[tls]
certificate = "tls/gateway.pem"
key = "keys/tls.key"
# Certificates of members must be issued by this authority.
client_ca = "tls/ca.pem"

[log]
# The log's name for ever.
origin = "{origin}"
database = "data/audit.db"
key = "keys/log.key"

[keys]
signing = "keys/gateway.key"
keyring = "keys/keyring.json"
page_tokens = "keys/page-tokens.key"

[disclosure]
# Lets chosen fields of an entry be shown to an outsider (`gateway audit disclose`).
key = "keys/disclosure.key"

[vault]
# Records that companies contribute, sealed under keys that are wrapped under `kek`.
database = "data/vault.db"
kek = "keys/vault.key"
signing = "keys/vault-signing.key"

# Whom exchanges concerned, kept for officers, sealed to custodians (`gateway custodian init`), of whom
# any two can open an entry together. Without this section it is not kept.
# [details]
# database = "data/details.sqlite"
# index_key = "keys/blind-index.key"
# custodians = ["custodians/NAME.card", "custodians/NAME.card"]

[corrections]
# For whoever corrects or withdraws records: who received which, of datasets that ask for it (`corrections`).
key = "keys/corrections.key"
remember_days = 1095

[policy]
directory = "policies"
# "embedded", or "opa" for a real OPA server at opa_url.
engine = "embedded"
opa_url = "http://127.0.0.1:8181"

# Two people put policies into force (`gateway policy sign`, `activate`), in place of the folder above. Each
# key is the line between BEGIN and END of FILE.pub as `gateway keys generate FILE` makes it.
# [policy.activation]
# authors = [{{person = "NAME", key = "..."}}]
# approvers = [{{person = "NAME", key = "..."}}]

[members]
database = "data/members.db"

[metrics]
host = "127.0.0.1"
port = {metrics_port}

[logging]
level = "info"
format = "json"
"""
