"""What stands in the file or on the command line, typed and not yet judged; flags win over the file."""

from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Self

from authsec_sdk.hcl import Fields
from icp_agent.config.later import Later
from icp_agent.domain.secrets import SecretNames, SecretSettings
from icp_agent.jwt_svids import SHORTEST_HIT_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSettings:
    """The settings of the `agent` section that this agent honours; None where nothing was said."""

    data_dir: str | None = None
    admin_socket_path: str | None = None
    insecure_bootstrap: bool | None = None
    join_token: str | None = field(default=None, repr=False)
    join_token_file: str | None = None
    log_file: str | None = None
    log_format: str | None = None
    log_level: str | None = None
    log_selectors: tuple[str, ...] | None = None
    log_source_location: bool | None = None
    rebootstrap_delay: timedelta | None = None
    rebootstrap_mode: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    socket_path: str | None = None
    disable_workload_api: bool | None = None
    workload_x509_svid_key_type: str | None = None
    trust_bundle_format: str | None = None
    trust_bundle_path: str | None = None
    trust_bundle_spiffe_workload_api: str | None = None
    trust_bundle_unix_socket: str | None = None
    trust_bundle_url: str | None = None
    trust_domain: str | None = None
    allow_unauthenticated_verifiers: bool | None = None
    allowed_foreign_jwt_claims: tuple[str, ...] | None = None
    jwt_svid_cache_max_size: int | None = None
    jwt_svid_cache_hit_timeout: timedelta | None = None
    availability_target: timedelta | None = None
    x509_svid_cache_max_size: int | None = None
    sync_interval: timedelta | None = None
    use_sync_authorized_entries: bool | None = None
    disable_sds_api: bool | None = None
    sds: SecretSettings | None = None

    def overridden_by(self, other: "RawSettings") -> Self:
        """The same, but for what `other` says."""
        said = {each.name: getattr(other, each.name) for each in fields(other)}
        return replace(self, **{name: value for name, value in said.items() if value is not None})


def read_agent_section(agent: Fields, later: Later) -> RawSettings:
    """Read every documented key of the section: those honoured into a value, the rest against `Later`.

    Raises:
        ConfigurationError: a key nobody knows, a value of the wrong kind, a setting that comes later.
    """
    with agent:
        _read_later(agent, later)
        experimental = _read_experimental(agent, later)
        return RawSettings(
            data_dir=agent.text("data_dir"),
            admin_socket_path=agent.text("admin_socket_path"),
            insecure_bootstrap=agent.boolean("insecure_bootstrap"),
            join_token=agent.text("join_token"),
            join_token_file=agent.text("join_token_file"),
            log_file=agent.text("log_file"),
            log_format=agent.text("log_format"),
            log_level=agent.text("log_level"),
            log_selectors=agent.texts("log_selectors"),
            log_source_location=agent.boolean("log_source_location"),
            rebootstrap_delay=agent.duration("rebootstrap_delay"),
            rebootstrap_mode=agent.text("rebootstrap_mode"),
            server_address=agent.text("server_address"),
            server_port=agent.integer("server_port", minimum=0, maximum=65535),
            socket_path=agent.text("socket_path"),
            disable_workload_api=agent.boolean("disable_workload_api"),
            workload_x509_svid_key_type=agent.text("workload_x509_svid_key_type"),
            trust_bundle_format=agent.text("trust_bundle_format"),
            trust_bundle_path=agent.text("trust_bundle_path"),
            trust_bundle_spiffe_workload_api=agent.text("trust_bundle_spiffe_workload_api"),
            trust_bundle_unix_socket=agent.text("trust_bundle_unix_socket"),
            trust_bundle_url=agent.text("trust_bundle_url"),
            trust_domain=agent.text("trust_domain"),
            allow_unauthenticated_verifiers=agent.boolean("allow_unauthenticated_verifiers"),
            allowed_foreign_jwt_claims=agent.texts("allowed_foreign_jwt_claims"),
            jwt_svid_cache_max_size=agent.integer("jwt_svid_cache_max_size"),
            availability_target=agent.duration("availability_target"),
            x509_svid_cache_max_size=agent.integer("x509_svid_cache_max_size"),
            disable_sds_api=agent.boolean("disable_sds_api"),
            sds=_read_sds(agent),
        ).overridden_by(experimental)


def _read_later(agent: Fields, later: Later) -> None:
    later.texts(agent, "authorized_delegates", "the Delegated Identity API")
    later.boolean(agent, "profiling_enabled", "profiling")
    for key in ("profiling_freq", "profiling_port"):
        agent.integer(key)
    agent.texts("profiling_names")


def _read_sds(agent: Fields) -> SecretSettings | None:
    sds = agent.block("sds")
    if sds is None:
        return None
    with sds:
        defaults = SecretNames()
        names = SecretNames(
            default_svid=sds.text("default_svid_name") or defaults.default_svid,
            default_bundle=sds.text("default_bundle_name") or defaults.default_bundle,
            default_all_bundles=sds.text("default_all_bundles_name") or defaults.default_all_bundles,
        )
        if len({names.default_svid, names.default_bundle, names.default_all_bundles}) < 3:
            raise sds.error("default_svid_name, default_bundle_name and default_all_bundles_name must differ")
        return SecretSettings(names, bool(sds.boolean("disable_spiffe_cert_validation")))


def _read_experimental(agent: Fields, later: Later) -> RawSettings:
    experimental = agent.block("experimental")
    if experimental is None:
        return RawSettings()
    with experimental:
        later.boolean(experimental, "require_pq_kem", "requiring a post-quantum key exchange")
        later.texts(experimental, "feature_flags", "any feature behind a flag")
        later.block(experimental, "broker", "the SPIFFE Broker API")
        for key in ("named_pipe_name", "admin_named_pipe_name"):
            if experimental.text(key):
                raise experimental.error(f"{key!r} is for Windows, where this agent does not run", key)
        limits = experimental.block("ratelimit")
        if limits is not None:
            with limits:
                for call in _RATE_LIMITED:
                    later.integer(limits, call, "rate limits of the Workload API", harmless=(0,))
        return RawSettings(
            sync_interval=experimental.duration("sync_interval", minimum=timedelta(milliseconds=100)),
            use_sync_authorized_entries=experimental.boolean("use_sync_authorized_entries"),
            jwt_svid_cache_hit_timeout=experimental.duration(
                "jwt_svid_cache_hit_timeout", minimum=SHORTEST_HIT_TIMEOUT
            ),
        )


_RATE_LIMITED = (
    "fetch_x509_svid",
    "fetch_jwt_svid",
    "fetch_x509_bundles",
    "fetch_jwt_bundles",
    "stream_secrets",
    "fetch_secrets",
)
