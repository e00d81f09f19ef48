"""The demo's world: a deployment with six members, two providers and their databases.

Everything in it is invented. Tests use it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.clock import Clock, system_clock
from gateway.demo.synthetic import (
    Company,
    arrears,
    companies,
    create_registry_database,
    create_tax_database,
)
from gateway.deployment import Deployment, MemberFiles, add_member, export_trust, initialise
from gateway.deployment.layout import gateway_uri, member_uri
from gateway.model import Member, Role
from gateway.pki.authority import CertificateAuthority

ORIGIN: Final = "audit.sluicegate.example/log/demo"
SEED: Final = 20261121
COMPANIES: Final = "members/registry/datasets/companies"
ARREARS: Final = "members/tax/datasets/arrears"

MEMBERS: Final = (
    ("registry", "Company Registry", "agency", (Role.PROVIDER,)),
    ("tax", "Tax Office", "agency", (Role.PROVIDER, Role.CONSUMER)),
    ("inspectorate", "Inspectorate", "agency", (Role.CONSUMER,)),
    ("harbour-bank", "Harbour Bank", "bank", (Role.CONSUMER,)),
    ("northern-bank", "Northern Bank", "bank", (Role.CONSUMER,)),
    ("tradeplatform", "Trade Platform", "company", (Role.CONTRIBUTOR, Role.CONSUMER)),
)
"""(id, title, class, roles): the members that the shipped policy data names."""

REGISTRY_MAPPING: Final = """\
member = "registry"

[datasets.companies]
source = "{source}"
table = "t_company"
lookup = ["uscc", "name", "kind", "area_code", "representative_id"]
key = ["uscc"]

[datasets.companies.types]
registered_on = "date"

[datasets.companies.columns]
uscc = "credit_code"
name = "ent_name"
kind = "ent_type"
status = "reg_state"
registered_on = "est_date"
capital = "reg_capital"
scope = "biz_scope"
area_code = "area_cd"
address = "reg_addr"
phone = "contact_tel"
representative_name = "lrep_name"
representative_id = "lrep_id_no"
"""

TAX_MAPPING: Final = """\
member = "tax"

[datasets.arrears]
source = "{source}"
table = "t_tax_owed"
lookup = ["uscc"]
key = ["uscc"]

[datasets.arrears.types]
since = "date"

[datasets.arrears.columns]
uscc = "taxpayer_no"
amount_owed = "owed_amt"
since = "owed_since"
taxpayer_grade = "credit_grade"
"""

PROVIDER_CONFIG: Final = """\
listen = "{listen}"
signing_key = "signing.key"
trust = "trust.json"
gateway_uri = "{gateway_uri}"
mapping = "mapping.toml"

[tls]
certificate = "member.pem"
key = "tls.key"
client_ca = "ca.pem"
"""


@dataclass(frozen=True, slots=True)
class World:
    """A built world: nothing runs yet."""

    deployment: Deployment
    members: dict[str, MemberFiles]
    companies: tuple[Company, ...]

    @property
    def provider_configs(self) -> tuple[Path, Path]:
        """Settings of the two providers."""
        return (
            self.members["registry"].directory / "provider.toml",
            self.members["tax"].directory / "provider.toml",
        )


def build_world(
    directory: Path,
    *,
    gateway_port: int,
    registry_port: int,
    tax_port: int,
    company_count: int = 10_000,
    metrics_port: int = 0,
    reflection: bool = False,
    clock: Clock = system_clock,
) -> World:
    """Make the deployment, its members, their databases and mappings in `directory`."""
    address = f"127.0.0.1:{gateway_port}"
    deployment = initialise(
        directory / "gateway",
        origin=ORIGIN,
        listen=address,
        metrics_port=metrics_port,
        reflection=reflection,
        clock=clock,
    )
    config = deployment.load()
    authority = CertificateAuthority.load(*deployment.authority)
    endpoints = {"registry": f"127.0.0.1:{registry_port}", "tax": f"127.0.0.1:{tax_port}"}
    members = {}
    for member_id, title, member_class, roles in MEMBERS:
        members[member_id] = add_member(
            config,
            Member(
                id=member_id,
                title=title,
                member_class=member_class,
                roles=frozenset(roles),
                uri=member_uri(member_id),
                signing_keys={},
                endpoint=endpoints.get(member_id),
            ),
            authority,
            directory / "members" / member_id,
            gateway_address=address,
            clock=clock,
        )
    trust = export_trust(config).to_json()
    for path in (deployment.trust, *(files.directory / "trust.json" for files in members.values())):
        path.write_bytes(trust)
    rows = tuple(companies(company_count, SEED))
    _add_provider(members["registry"], endpoints["registry"], REGISTRY_MAPPING, "registry.db")
    create_registry_database(members["registry"].directory / "registry.db", rows)
    _add_provider(members["tax"], endpoints["tax"], TAX_MAPPING, "tax.db")
    create_tax_database(members["tax"].directory / "tax.db", arrears(rows, SEED))
    return World(deployment, members, rows)


def _add_provider(files: MemberFiles, endpoint: str, mapping: str, database: str) -> None:
    source = f"sqlite:///{files.directory.resolve() / database}"
    (files.directory / "mapping.toml").write_text(mapping.format(source=source))
    (files.directory / "provider.toml").write_text(
        PROVIDER_CONFIG.format(listen=endpoint, gateway_uri=gateway_uri())
    )
