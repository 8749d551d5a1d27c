"""The server's configuration as one frozen value, after every check that needs no disk and no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.config.federation import Federation
from icp_server.domain.composer import CredentialComposer
from icp_server.domain.key_settings import KeySettings
from icp_server.domain.key_type import KeyType
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.domain.svid_template import CASubject
from icp_server.domain.upstream_settings import UpstreamSettings
from icp_server.ports import MakeNodeAttestor

DEFAULT_SOCKET_PATH = Path("/tmp/spire-server/private/api.sock")  # noqa: S108  (SPIRE's own default; its folder is checked)
DEFAULT_CONFIG_PATH = Path("conf/server/server.conf")
DEFAULT_BIND_ADDRESS = "0.0.0.0"  # noqa: S104  (SPIRE's own default: agents call from other hosts)
DEFAULT_BIND_PORT = 8081


@dataclass(frozen=True, slots=True)
class RateLimitSwitches:
    """Which of the per-address limits hold."""

    attestation: bool = True
    signing: bool = True


@dataclass(frozen=True, slots=True)
class HealthListener:
    """Where liveness and readiness are answered over HTTP."""

    bind_address: str = "localhost"
    bind_port: int = 80
    live_path: str = "/live"
    ready_path: str = "/ready"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How and where the log is written."""

    level: str = "INFO"
    format: str = "text"
    file: Path | None = None
    source_location: bool = False


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what we sign is valid."""

    ca: timedelta = timedelta(hours=24)
    x509_svid: timedelta = timedelta(hours=1)
    agent: timedelta | None = None
    """None: as long as an X509-SVID."""
    jwt_svid: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Which tokens are signed, and how. A key type of None is that of the CA."""

    jwt: bool = True
    jwt_issuer: str = ""
    jwt_key_type: KeyType | None = None
    wit: bool = False
    wit_issuer: str = ""
    wit_key_type: KeyType | None = None


@dataclass(frozen=True, slots=True)
class DataStore:
    """The SQLite database."""

    path: Path
    migrate: bool = True
    """Whether the schema is brought up to this release at start."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """What the `plugins` section chooses."""

    data_store: DataStore | PostgresSettings
    key_manager: KeySettings
    node_attestors: Mapping[str, MakeNodeAttestor] = field(default_factory=dict)
    """What makes each, by name."""
    upstream: UpstreamSettings | None = None
    """Who signs our X.509 authorities; None: they are self-signed."""
    composers: tuple[tuple[str, CredentialComposer], ...] = ()
    """By name, in the order in which they are asked."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where the API is served."""

    address: str = DEFAULT_BIND_ADDRESS
    port: int = DEFAULT_BIND_PORT
    socket_path: Path = DEFAULT_SOCKET_PATH


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """All settings of one server."""

    trust_domain: TrustDomain
    data_dir: Path
    plugins: Plugins
    listeners: Listeners = field(default_factory=Listeners)
    log: LogSettings = field(default_factory=LogSettings)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    ca_key_type: KeyType = KeyType.EC_P256
    ca_subject: CASubject = field(default_factory=CASubject)
    tokens: Tokens = field(default_factory=Tokens)
    admin_ids: frozenset[SpiffeID] = frozenset()
    federation: Federation = field(default_factory=Federation)
    audit_log_enabled: bool = False
    rate_limits: RateLimitSwitches = field(default_factory=RateLimitSwitches)
    health: HealthListener | None = None
    agent_spiffe_id_as_selector: bool = False
    require_strong_selectors: bool = False
    """Refuse entries made of selectors alone that any local process can borrow. Ours; upstream has no such setting."""
    warnings: tuple[str, ...] = ()
    """What an operator should know of these settings; logged at start, printed by `validate`."""
