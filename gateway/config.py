"""Configuration: one TOML file, environment variables over it, secrets only as files.

Environment: `SLUICEGATE_<SECTION>__<NAME>`, such as `SLUICEGATE_SERVER__LISTEN`. Unknown keys are
errors. Relative paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateway.database import PostgresAddress, parse_place
from gateway.errors import ConfigError
from gateway.evidence.keys import VerifyKey

_Port = Annotated[int, Field(ge=0, le=65535)]
ORIGIN_PATTERN: Final = r"^[a-z0-9][a-z0-9.-]{0,100}(/[a-z0-9._-]{1,50}){1,4}$"
"""A log's name: a schemeless URL in lower case, such as `audit.example.org/log/2026`."""

WITNESS_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9.-]{0,100}(/[a-z0-9._-]{1,50}){0,4}$"
"""A witness's name: a schemeless URL in lower case, such as `witness.example.org/w1`."""

_Origin = Annotated[str, Field(pattern=ORIGIN_PATTERN)]


def _trimmed(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


ADDRESS_PATTERN: Final = r"^(\[[0-9a-fA-F:]+\]|[^\s:/]+):[0-9]{1,5}$"
Address = Annotated[str, BeforeValidator(_trimmed), Field(pattern=ADDRESS_PATTERN)]
"""`host:port`; port 0 takes a free one."""


Place = Annotated[Path | PostgresAddress, BeforeValidator(parse_place)]
"""A SQLite file, or `postgresql://...` for several nodes."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsConfig(_Section):
    """Mutual TLS 1.3: our certificate and key, and the authority of the other side."""

    certificate: Path
    key: Path
    """PEM, mode 0600."""
    client_ca: Path


class ServerConfig(_Section):
    """Where the gateway listens."""

    listen: Address = "127.0.0.1:7443"
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Processes that answer calls, on one port; 0 means one for each core."""
    node: Annotated[str, Field(pattern=r"^[a-z0-9.-]{0,63}$")] = ""
    """Name of this node among several with one log in PostgreSQL, for ever its own; by default made of the
    host's name. To be set where that changes with each start, as in containers."""
    reflection: bool = False
    """Whether tools such as grpcurl may ask for the API's description."""
    shutdown_grace_s: Annotated[float, Field(ge=0, le=600)] = 10.0
    moving_streams: Annotated[int, Field(ge=1, le=1000)] = 4
    """Bulk answers of one worker that fetch and send at the same time, at about 2 MiB each; the others
    wait their turn."""


class WitnessesConfig(_Section):
    """Who cosigns the log's checkpoints."""

    policy: Path
    """Witnesses and quorum, in the form of c2sp.org/tlog-policy; each witness with its URL."""
    interval_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    """How often the latest checkpoint is published, if the log has grown."""
    timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    """How long all witnesses together may take."""
    refresh_s: Annotated[float, Field(ge=1, le=86400)] = 600.0
    """When to ask again though the log has not grown, to show that it has not."""
    release_timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    """How long a release at a tier that policy wants witnessed waits for a quorum; then it is refused."""
    ca: Path | None = None
    """Authorities of the witnesses' certificates (PEM); those of the system without it."""


class TimestampsConfig(_Section):
    """Who says when the log's checkpoints were there (RFC 3161)."""

    url: str
    """The time-stamping authority's, http or https."""
    ca: Path
    """Root certificates that its tokens must lead to (PEM)."""
    database: Path = Path("data/timestamps.db")
    """Where the tokens are kept."""
    interval_s: Annotated[float, Field(ge=1, le=86400)] = 3600.0
    """How often the latest checkpoint is stamped, if the log has grown."""
    timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 10.0
    tls_ca: Path | None = None
    """Authorities of the server's certificate (PEM); those of the system without it."""


class LogConfig(_Section):
    """The audit log."""

    origin: _Origin
    """The log's name for ever: a schemeless URL such as `audit.example.org/log/2026`."""
    database: Place = Path("data/audit.db")
    key: Path = Path("keys/log.key")
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    anchor: Path | None = None
    """File that keeps the last checkpoint seen; on another disk than the log, so that an older copy of the
    log is noticed at the start. Make it with `gateway audit anchor`."""
    clock_tolerance_s: Annotated[float, Field(ge=1, le=300)] = 60.0
    """How far the clock may lie before the latest entry; beyond it nothing is appended."""
    clock_jump_s: Annotated[float, Field(ge=0.1, le=300)] = 5.0
    """From how many seconds on a jump of the clock gets an entry."""
    disk_filling_ratio: Annotated[float, Field(gt=0, le=1)] = 0.75
    """From which used part of the log's disk on a warning is given."""
    disk_full_ratio: Annotated[float, Field(gt=0, le=1)] = 0.95
    """From which used part on new exchanges are refused, and only the rest of the entries are taken."""
    timestamps: TimestampsConfig | None = None
    """Without this section the times of checkpoints are the operator's word, or that of witnesses."""
    witnesses: WitnessesConfig | None = None
    """Without this section nobody but the operator vouches for the log."""
    previous: tuple[Place, ...] = ()
    """The closed logs that this one goes on from, oldest first (`gateway audit rotate`)."""


class KeysConfig(_Section):
    """Secrets of the gateway, each a file of mode 0600."""

    signing: Path = Path("keys/gateway.key")
    keyring: Path = Path("keys/keyring.json")
    page_tokens: Path = Path("keys/page-tokens.key")


class DetailsConfig(_Section):
    """Details of exchanges (whom they concerned, who asked), kept for officers. Absent: none are kept."""

    database: Place = Path("data/details.sqlite")
    index_key: Path = Path("keys/blind-index.key")
    """32 random bytes, mode 0600."""
    custodians: Annotated[tuple[Path, ...], Field(min_length=2)]
    """Cards (public keys) of those who can open details together."""
    former_custodians: tuple[Path, ...] = ()
    """Cards of those who can still open older details."""
    threshold: Annotated[int, Field(ge=2)] = 2
    """How many of them it takes."""
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 4096


class VaultConfig(_Section):
    """The vault: records that contributors hand over, kept sealed. Absent: none are taken."""

    database: Place = Path("data/vault.db")
    """Several nodes share a vault only in PostgreSQL."""
    kek: Path = Path("keys/vault.key")
    """The key-encryption key: 32 random bytes, mode 0600."""
    signing: Path = Path("keys/vault-signing.key")
    """Ed25519 key that signs what is delivered from the vault, PEM, mode 0600."""
    staged_hours: Annotated[int, Field(ge=1, le=8760)] = 168
    """After how many hours without a record an upload that nobody ended is removed."""
    upkeep_hours: Annotated[float, Field(ge=0.01, le=168)] = 24.0
    """How often records past retention, and keys of contracts that ended, are destroyed."""


class DisclosureConfig(_Section):
    """What lets chosen fields of an entry be shown to an outsider. Absent: they cannot be."""

    key: Path = Path("keys/disclosure.key")
    """32 random bytes, mode 0600."""


class PolicySigner(_Section):
    """A key of somebody who may sign activations."""

    person: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
    """Who it is, in lower case; the same person bears the same name everywhere."""
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+=*$")]
    """Ed25519 public key: the line between BEGIN and END of FILE.pub as `gateway keys generate` makes it."""

    @field_validator("key")
    @classmethod
    def _is_a_key(cls, text: str) -> str:
        read_public_line(text)
        return text

    @property
    def verify_key(self) -> VerifyKey:
        """The key, ready to verify."""
        return read_public_line(self.key)


class ActivationConfig(_Section):
    """Who puts policies into force, two or more together. Absent: the operator does, with the directory."""

    authors: Annotated[tuple[PolicySigner, ...], Field(min_length=1)]
    approvers: Annotated[tuple[PolicySigner, ...], Field(min_length=1)]
    threshold: Annotated[int, Field(ge=2, le=8)] = 2
    """How many different persons must have signed; at least one author and one approver among them."""
    max_age_h: Annotated[float, Field(gt=0, le=24 * 366 * 5)] = 24.0 * 90
    """How long after its approval began a bundle decides, unless it is confirmed; then all is denied."""
    database: Path = Path("data/policy.db")
    """Where bundles and approvals are kept; with a log in PostgreSQL, in that."""

    @model_validator(mode="after")
    def _keep_sides_apart(self) -> Self:
        keys = [signer.verify_key.key_id for signer in (*self.authors, *self.approvers)]
        if len(set(keys)) != len(keys):
            raise ValueError(
                "a key stands twice among authors and approvers; each has one owner and one side"
            )
        if len({signer.person for signer in (*self.authors, *self.approvers)}) < self.threshold:
            raise ValueError("fewer persons are named than must sign")
        return self


class PolicyConfig(_Section):
    """The policy and the engine that evaluates it."""

    directory: Path = Path("policies")
    """A folder, or a bundle file of `gateway policy build`; not used with `activation`."""
    activation: ActivationConfig | None = None
    engine: Literal["embedded", "opa"] = "embedded"
    opa_url: str = "http://127.0.0.1:8181"
    opa_token_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=1)] = 0.25
    cache_entries: Annotated[int, Field(ge=0, le=10_000_000)] = 10_000
    cache_max_age_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    shadow: Path | None = None
    """A candidate policy that is asked beside the one in force, counted, and never obeyed."""
    shadow_queue: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Questions that may wait for it; beyond that they are dropped and counted."""


class DutiesConfig(_Section):
    """How duties that policy lays on exchanges are enforced."""

    overdue_acknowledgements: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """A consumer with more overdue acknowledgements than this is refused until it has made them."""


class MembersConfig(_Section):
    """Where the members are kept."""

    database: Place = Path("data/members.db")


class ContractsConfig(_Section):
    """Where the contracts are kept."""

    database: Place | None = None
    """By default with the members: `contracts.db` beside their file, or the same PostgreSQL."""


class MetricsConfig(_Section):
    """The Prometheus endpoint."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: _Port = 9464


class ListsConfig(_Section):
    """Questions to lists."""

    answer_after_ms: Annotated[int, Field(ge=50, le=10_000)] = 500
    """When every answer leaves, yes or no alike; or at a multiple of it, if a provider takes longer."""
    smallest_list: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """A list with fewer records is not asked."""
    questions_a_day: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Questions of one member to one list or list set on one day (UTC)."""
    again_after_s: Annotated[int, Field(ge=0, le=31_536_000)] = 3600
    """When a member that was answered may ask the same of the same subject again."""


class UsageConfig(_Section):
    """What contributors are told of the use of their records, and how."""

    unusual_floor: Annotated[int, Field(ge=0, le=10**12)] = 1000
    """A day on which no more records of a dataset left than this is never called unusual."""
    webhook_timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 10.0
    """How long a webhook may take to accept a notice."""
    webhook_ca: Path | None = None
    """Authorities of webhooks' certificates (PEM); those of the system without it."""
    allowed_private_hosts: tuple[str, ...] = ()
    """Hosts of webhooks that may have addresses which are not of the public internet. For demonstrations and
    tests: through them, members reach what stands in the operator's own network."""


class CorrectionsConfig(_Section):
    """Passing on corrections of datasets that ask for it. The register stands beside the log."""

    key: Path = Path("keys/corrections.key")
    """32 random bytes, mode 0600; the same on all nodes. Needed once a dataset asks for it."""
    remember_days: Annotated[int, Field(ge=1, le=36_500)] = 1095
    """For so long it is remembered who received which record; older recipients hear of no correction."""
    overdue_days: Annotated[int, Field(ge=1, le=3650)] = 7
    """After so many days a correction that a recipient has not answered counts as overdue."""


class TilesConfig(_Section):
    """The log's site: `gateway audit serve`, a process of its own."""

    listen: Address = "127.0.0.1:7480"
    entries: bool = False
    """Whether the entries themselves are shown to whoever can connect, not only their hashes."""
    certificate: Path | None = None
    key: Path | None = None
    """PEM, mode 0600. Without certificate and key the site speaks plain HTTP."""


class LoggingConfig(_Section):
    """The operators' log (not the audit log)."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class _File(BaseSettings):
    """A settings file; the class variable names it while it is read."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="SLUICEGATE_", env_nested_delimiter="__"
    )
    _source: ClassVar[Path] = Path()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library passes all four
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, TomlConfigSettingsSource(settings_cls, cls._source)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file at `path`; raise `ConfigError` that names every wrong key."""
        if not path.is_file():
            raise ConfigError(f"There is no configuration file {path}; `gateway init DIR` makes one.")
        bound: type[Self] = type(cls.__name__, (cls,), {"_source": path, "__module__": cls.__module__})
        try:
            loaded = bound()
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
                for problem in error.errors(include_input=False)
            )
            raise ConfigError(f"{path}: {problems}") from error
        return loaded.resolved(path.parent)

    def resolved(self, base: Path) -> Self:
        """Return the settings with every relative path made absolute from `base`."""
        resolved: Self = _resolve(self, base.resolve())
        return resolved


class GatewayConfig(_File):
    """Configuration of `gateway serve`."""

    demo: bool = False
    """Allows the example keys. Never set it where real records are."""
    server: ServerConfig = ServerConfig()
    tls: TlsConfig
    log: LogConfig
    keys: KeysConfig = KeysConfig()
    policy: PolicyConfig = PolicyConfig()
    catalogue: Path = Path("catalogue")
    """Folder of the dataset descriptions (ODCS 3.1 YAML)."""
    members: MembersConfig = MembersConfig()
    contracts: ContractsConfig = ContractsConfig()
    duties: DutiesConfig = DutiesConfig()
    details: DetailsConfig | None = None
    disclosure: DisclosureConfig | None = None
    vault: VaultConfig | None = None
    lists: ListsConfig = ListsConfig()
    corrections: CorrectionsConfig = CorrectionsConfig()
    metrics: MetricsConfig = MetricsConfig()
    tiles: TilesConfig = TilesConfig()
    usage: UsageConfig = UsageConfig()
    logging: LoggingConfig = LoggingConfig()

    @property
    def contracts_place(self) -> Path | PostgresAddress:
        """Where the contracts are kept: as configured, or with the members."""
        if self.contracts.database is not None:
            return self.contracts.database
        members = self.members.database
        return members if isinstance(members, PostgresAddress) else members.with_name("contracts.db")

    @model_validator(mode="after")
    def _share_everything_or_nothing(self) -> Self:
        """Nodes that share the log share all else: a suspension must bite on every one."""
        log = self.log.database
        others: dict[str, Path | PostgresAddress] = {"members.database": self.members.database}
        if self.contracts.database is not None:
            others["contracts.database"] = self.contracts.database
        if self.details is not None:
            others["details.database"] = self.details.database
        for name, place in others.items():
            if (isinstance(log, PostgresAddress) or isinstance(place, PostgresAddress)) and log != place:
                raise ValueError(
                    f"log.database and {name} must be the same PostgreSQL address, or both files"
                )
        if (
            self.vault is not None
            and isinstance(self.vault.database, PostgresAddress)
            and not isinstance(log, PostgresAddress)
        ):
            raise ValueError("vault.database may be a PostgreSQL address only if log.database is one")
        return self


class ProviderConfig(_File):
    """Configuration of `gateway provider`."""

    demo: bool = False
    listen: Address = "127.0.0.1:7500"
    tls: TlsConfig
    signing_key: Path
    """Ed25519 key registered for this member, PEM, mode 0600."""
    trust: Path
    """The gateway's trust file."""
    gateway_uri: str
    """The URI in the gateway's certificate; nobody else may call."""
    mapping: Path
    """Which columns of which tables or files are which fields."""
    deliveries: Path | None = None
    """Where to keep what was delivered, signed; without it nothing is kept."""
    shutdown_grace_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    logging: LoggingConfig = LoggingConfig()


class WitnessTlsConfig(_Section):
    """The certificate of a witness's server."""

    certificate: Path
    key: Path
    """PEM, mode 0600."""


class WitnessConfig(_File):
    """Configuration of `gateway witness`."""

    name: Annotated[str, Field(pattern=WITNESS_NAME_PATTERN)]
    """The name under which it cosigns, for ever: a schemeless URL such as `witness.example.org/w1`."""
    listen: Address = "127.0.0.1:7480"
    state: Path = Path("data/witness.db")
    ed25519_key: Path | None = None
    ml_dsa_key: Path | None = None
    """PEM, mode 0600. At least one of the two keys."""
    tls: WitnessTlsConfig | None = None
    """Without it, plain HTTP: for the loopback address, or behind a proxy that speaks TLS."""
    logging: LoggingConfig = LoggingConfig()


class ClientConfig(_File):
    """What a member's program needs to call the gateway."""

    address: Address
    member: str
    tls: TlsConfig
    """`client_ca` is the authority of the gateway's certificate."""
    signing_key: Path | None = None
    """Without one only unsigned queries (public tier) can be made."""
    trust: Path


def read_public_line(text: str) -> VerifyKey:
    """Return the key whose SubjectPublicKeyInfo is `text` in base64; raise `ValueError` if it is not one."""
    pem = f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"
    try:
        return VerifyKey.from_pem(pem.encode())
    except (ConfigError, UnicodeEncodeError) as error:
        raise ValueError("this is not the line of an Ed25519 public key in PEM form") from error


def _resolve(value: Any, base: Path) -> Any:
    if isinstance(value, BaseModel):
        changed = {name: _resolve(getattr(value, name), base) for name in type(value).model_fields}
        return value.model_copy(update=changed)
    if isinstance(value, PostgresAddress):
        return value.resolved(base)
    if isinstance(value, Path):
        return value if value.is_absolute() else base / value
    if isinstance(value, tuple):
        return tuple(_resolve(item, base) for item in value)
    return value
