"""Every setting SPIRE documents for its server, and what becomes of it here: read, already so, or refused by name.

A setting that would do nothing must never be accepted in silence: the operator would believe in it. So a key is
either honoured, or `moot` (what it asks for holds anyway; its reader is told so), or `not_yet` (the file is refused
with the reason, unless the value asks for nothing).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


class Kind(enum.Enum):
    """What shape a value has."""

    TEXT = "a string"
    INTEGER = "a whole number"
    BOOLEAN = "true or false"
    DURATION = 'a duration such as "1h30m"'
    TEXTS = "a list of strings"
    BLOCK = "a block"


@dataclass(frozen=True, slots=True)
class Key:
    """One known setting. `harmless` are the values that ask for nothing and so pass although the key is `not_yet`."""

    kind: Kind
    not_yet: str = ""
    moot: str = ""
    harmless: tuple[object, ...] = ()


Schema = Mapping[str, Key]

_PRUNING: Final = "attested nodes are not pruned yet"
_PROFILING: Final = "profiling is not built yet"
_METRICS: Final = "metrics are kept in the process and not exported yet"
_NO_CACHE: Final = "has no effect: entries are read from an always current snapshot"


def _table(**keys: Key) -> Schema:
    return MappingProxyType(keys)


TOP_LEVEL: Final = _table(
    server=Key(Kind.BLOCK),
    plugins=Key(Kind.BLOCK),
    telemetry=Key(Kind.BLOCK),
    health_checks=Key(Kind.BLOCK),
)

SERVER: Final = _table(
    admin_ids=Key(Kind.TEXTS),
    agent_ttl=Key(Kind.DURATION),
    audit_log_enabled=Key(Kind.BOOLEAN),
    bind_address=Key(Kind.TEXT),
    bind_port=Key(Kind.INTEGER),
    ca_key_type=Key(Kind.TEXT),
    ca_subject=Key(Kind.BLOCK),
    ca_ttl=Key(Kind.DURATION),
    data_dir=Key(Kind.TEXT),
    default_x509_svid_ttl=Key(Kind.DURATION),
    default_jwt_svid_ttl=Key(Kind.DURATION),
    experimental=Key(Kind.BLOCK),
    federation=Key(Kind.BLOCK),
    disable_jwt_svids=Key(Kind.BOOLEAN),
    jwt_issuer=Key(Kind.TEXT),
    jwt_key_type=Key(Kind.TEXT),
    log_file=Key(Kind.TEXT),
    log_format=Key(Kind.TEXT),
    log_level=Key(Kind.TEXT),
    log_source_location=Key(Kind.BOOLEAN),
    max_attested_node_info_staleness=Key(
        Kind.DURATION, moot="has no effect: every call of an agent is judged by its current record"
    ),
    proxy_protocol_trusted_cidrs=Key(Kind.TEXTS, not_yet="the PROXY protocol is not spoken yet", harmless=((),)),
    prune_attested_nodes_expired_for=Key(Kind.DURATION, not_yet=_PRUNING),
    prune_attested_nodes_batch_size=Key(Kind.INTEGER, not_yet=_PRUNING),
    prune_tofu_nodes=Key(Kind.BOOLEAN, not_yet=_PRUNING, harmless=(False,)),
    profiling_enabled=Key(Kind.BOOLEAN, not_yet=_PROFILING, harmless=(False,)),
    profiling_port=Key(Kind.INTEGER, not_yet=_PROFILING, harmless=(0,)),
    profiling_freq=Key(Kind.INTEGER, not_yet=_PROFILING, harmless=(0,)),
    profiling_names=Key(Kind.TEXTS, not_yet=_PROFILING, harmless=((),)),
    ratelimit=Key(Kind.BLOCK),
    require_strong_selectors=Key(Kind.BOOLEAN),
    socket_path=Key(Kind.TEXT),
    trust_domain=Key(Kind.TEXT),
)

CA_SUBJECT: Final = _table(
    country=Key(Kind.TEXTS),
    organization=Key(Kind.TEXTS),
    common_name=Key(Kind.TEXT),
)

RATE_LIMIT: Final = _table(
    attestation=Key(Kind.BOOLEAN),
    signing=Key(Kind.BOOLEAN),
)

EXPERIMENTAL: Final = _table(
    agent_spiffe_id_as_selector=Key(Kind.BOOLEAN),
    auth_opa_policy_engine=Key(Kind.BLOCK, not_yet="authorization policies in Rego are not evaluated yet"),
    cache_reload_interval=Key(Kind.DURATION, moot=_NO_CACHE),
    full_cache_reload_interval=Key(Kind.DURATION, moot=_NO_CACHE),
    events_based_cache=Key(Kind.BOOLEAN, moot=_NO_CACHE),
    prune_events_older_than=Key(Kind.DURATION, moot=_NO_CACHE),
    event_timeout=Key(Kind.DURATION, moot=_NO_CACHE),
    sql_transaction_timeout=Key(Kind.DURATION, moot=_NO_CACHE),
    feature_flags=Key(Kind.TEXTS),
    named_pipe_name=Key(Kind.TEXT, not_yet="named pipes are Windows'; please use socket_path", harmless=("",)),
    require_pq_kem=Key(Kind.BOOLEAN, not_yet="post-quantum key exchange cannot be required yet", harmless=(False,)),
    wit_issuer=Key(Kind.TEXT),
    wit_key_type=Key(Kind.TEXT),
)

HEALTH_CHECKS: Final = _table(
    listener_enabled=Key(Kind.BOOLEAN),
    bind_address=Key(Kind.TEXT),
    bind_port=Key(Kind.INTEGER),
    live_path=Key(Kind.TEXT),
    ready_path=Key(Kind.TEXT),
)

TELEMETRY: Final = _table(
    InMem=Key(Kind.BLOCK, moot="counters are always kept in the process"),
    Prometheus=Key(Kind.BLOCK, not_yet=_METRICS),
    DogStatsd=Key(Kind.BLOCK, not_yet=_METRICS),
    Statsd=Key(Kind.BLOCK, not_yet=_METRICS),
    M3=Key(Kind.BLOCK, not_yet=_METRICS),
    MetricPrefix=Key(Kind.TEXT, not_yet=_METRICS, harmless=("",)),
    EnableTrustDomainLabel=Key(Kind.BOOLEAN, not_yet=_METRICS, harmless=(False,)),
    EnableHostnameLabel=Key(Kind.BOOLEAN, not_yet=_METRICS),
    AllowedPrefixes=Key(Kind.TEXTS, not_yet=_METRICS, harmless=((),)),
    BlockedPrefixes=Key(Kind.TEXTS, not_yet=_METRICS, harmless=((),)),
    AllowedLabels=Key(Kind.TEXTS, not_yet=_METRICS, harmless=((),)),
    BlockedLabels=Key(Kind.TEXTS, not_yet=_METRICS, harmless=((),)),
)

_EXTERNAL: Final = "plugins that are programs of their own are not run yet"

PLUGIN: Final = _table(
    enabled=Key(Kind.BOOLEAN),
    plugin_data=Key(Kind.BLOCK),
    plugin_data_file=Key(Kind.TEXT),
    plugin_cmd=Key(Kind.TEXT, not_yet=_EXTERNAL, harmless=("",)),
    plugin_args=Key(Kind.TEXTS, not_yet=_EXTERNAL, harmless=((),)),
    plugin_checksum=Key(Kind.TEXT, not_yet=_EXTERNAL, harmless=("",)),
)

_REPLICA: Final = "a replica lags, and would undo bans and deletions for that long: all reads go to the one database"

SQL: Final = _table(
    database_type=Key(Kind.TEXT),
    connection_string=Key(Kind.TEXT),
    ro_connection_string=Key(Kind.TEXT, not_yet=_REPLICA, harmless=("",)),
    root_ca_path=Key(Kind.TEXT),
    client_cert_path=Key(Kind.TEXT),
    client_key_path=Key(Kind.TEXT),
    max_open_conns=Key(Kind.INTEGER),
    max_idle_conns=Key(Kind.INTEGER),
    conn_max_lifetime=Key(Kind.DURATION),
    disable_migration=Key(Kind.BOOLEAN),
)

KEY_MANAGER_DISK: Final = _table(
    keys_path=Key(Kind.TEXT),
    seal_file=Key(Kind.TEXT),
    seal_env=Key(Kind.TEXT),
    seal_credential=Key(Kind.TEXT),
)

KEY_MANAGER_PKCS11: Final = _table(
    module_path=Key(Kind.TEXT),
    token_label=Key(Kind.TEXT),
    token_serial=Key(Kind.TEXT),
    pin_file=Key(Kind.TEXT),
    pin_env=Key(Kind.TEXT),
    pin_credential=Key(Kind.TEXT),
    key_identifier_file=Key(Kind.TEXT),
    key_identifier_value=Key(Kind.TEXT),
    timeout=Key(Kind.DURATION),
)

UPSTREAM_DISK: Final = _table(
    cert_file_path=Key(Kind.TEXT),
    key_file_path=Key(Kind.TEXT),
    bundle_file_path=Key(Kind.TEXT),
)

UPSTREAM_SPIRE: Final = _table(
    server_address=Key(Kind.TEXT),
    server_port=Key(Kind.INTEGER),
    workload_api_socket=Key(Kind.TEXT),
    experimental=Key(Kind.BLOCK),
)

UPSTREAM_SPIRE_EXPERIMENTAL: Final = _table(
    workload_api_named_pipe_name=Key(
        Kind.TEXT, not_yet="named pipes are Windows'; please use workload_api_socket", harmless=("",)
    ),
    require_pq_kem=Key(Kind.BOOLEAN, not_yet="post-quantum key exchange cannot be required yet", harmless=(False,)),
)

NO_SETTINGS: Final = _table()


@dataclass(frozen=True, slots=True)
class PluginType:
    """What SPIRE ships for one type of plugin: `built` are ours, `not_yet` are known and refused."""

    built: Mapping[str, Schema]
    not_yet: frozenset[str] = frozenset()
    least: int = 0
    most: int | None = None


NODE_ATTESTORS_NOT_YET: Final = frozenset({"aws_iid", "azure_imds", "azure_msi", "gcp_iit", "tpm_devid"})
"""Attestors of SPIRE's that are not built; those which are read their own settings."""

PLUGIN_TYPES: Final[Mapping[str, PluginType]] = MappingProxyType(
    {
        "DataStore": PluginType({"sql": SQL}, least=1, most=1),
        "KeyManager": PluginType(
            {"disk": KEY_MANAGER_DISK, "memory": NO_SETTINGS, "pkcs11": KEY_MANAGER_PKCS11},
            frozenset({"aws_kms", "gcp_kms", "azure_key_vault", "hashicorp_vault"}),
            least=1,
            most=1,
        ),
        "UpstreamAuthority": PluginType(
            {"disk": UPSTREAM_DISK, "spire": UPSTREAM_SPIRE},
            frozenset({"aws_pca", "awssecret", "cert-manager", "ejbca", "gcp_cas", "vault"}),
            most=1,
        ),
        "Notifier": PluginType({}, frozenset({"gcs_bundle", "k8sbundle"})),
        "BundlePublisher": PluginType(
            {},
            frozenset({"aws_rolesanywhere_trustanchor", "aws_s3", "azure_blob", "gcp_cloudstorage", "k8s_configmap"}),
        ),
    }
)
