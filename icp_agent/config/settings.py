"""What an operator may choose, after every check that needs no file but the configuration's own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from authsec_sdk.spiffe import TrustDomain
from icp_agent.bootstrap import BootstrapTrust
from icp_agent.domain.secrets import SecretSettings
from icp_agent.domain.trust_watch import RebootstrapSettings
from icp_agent.jwt_svids import JWTSettings
from icp_agent.ports import MakeNodeAttestor, MakeWorkloadAttestor
from icp_agent.syncer import SyncSettings

DEFAULT_SOCKET: Final = Path("/tmp/spire-agent/public/api.sock")  # noqa: S108 - upstream's, clients look there
DEFAULT_CONFIG: Final = "conf/agent/agent.conf"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How to log, by the words of the file."""

    level: str = "INFO"
    format: str = "text"
    file: Path | None = None
    source_location: bool = False


@dataclass(frozen=True, slots=True)
class HealthListenerSettings:
    """Where probes ask over HTTP."""

    host: str = "localhost"
    port: int = 80
    live_path: str = "/live"
    ready_path: str = "/ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """All settings of one agent.

    `keys_directory` None keeps the agent's key in memory alone. `socket_path` None serves no workloads.
    `sds` None serves no secrets to Envoy, `workload_api` False no Workload API: both are on the public socket.
    `join_token` is a secret. `warnings` are for the log: settings that are accepted and change nothing.
    """

    trust_domain: TrustDomain
    server_address: str
    server_port: int
    trust: BootstrapTrust
    data_dir: Path
    keys_directory: Path | None
    node_attestor: MakeNodeAttestor
    workload_attestors: tuple[MakeWorkloadAttestor, ...]
    socket_path: Path | None = DEFAULT_SOCKET
    workload_api: bool = True
    sds: SecretSettings | None = field(default_factory=SecretSettings)
    admin_socket_path: Path | None = None
    rebootstrap: RebootstrapSettings = field(default_factory=RebootstrapSettings)
    join_token: str = field(default="", repr=False)
    join_token_file: Path | None = None
    sync: SyncSettings = field(default_factory=SyncSettings)
    paged_sync: bool = True
    jwt: JWTSettings = field(default_factory=JWTSettings)
    allowed_foreign_jwt_claims: frozenset[str] = frozenset()
    allow_unauthenticated_verifiers: bool = False
    log: LogSettings = field(default_factory=LogSettings)
    log_selectors: tuple[str, ...] = ()
    health: HealthListenerSettings | None = None
    warnings: tuple[str, ...] = ()
