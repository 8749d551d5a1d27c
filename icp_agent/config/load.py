"""From the file and the flags to an `AgentConfig`: what belongs together, what excludes what, what must be there."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from authsec_sdk.errors import ConfigurationError, InvalidSpiffeIDError
from authsec_sdk.hcl import Fields, load
from authsec_sdk.spiffe import TrustDomain
from icp_agent.config.later import Later
from icp_agent.config.plugins import read_plugins
from icp_agent.config.raw import RawSettings, read_agent_section
from icp_agent.config.settings import DEFAULT_SOCKET, AgentConfig, HealthListenerSettings, LogSettings
from icp_agent.config.trust import read_rebootstrap, read_trust
from icp_agent.domain.secrets import SecretSettings
from icp_agent.jwt_svids import LONGEST_HIT_TIMEOUT, JWTSettings
from icp_agent.keys import KeyType
from icp_agent.syncer import SyncSettings
from icp_common.logs import parse_level

MINIMUM_AVAILABILITY_TARGET: Final = timedelta(hours=24)
_NO_FLAGS: Final = RawSettings()
T = TypeVar("T")
_SINKS: Final = ("Prometheus", "DogStatsd", "Statsd", "M3")


def load_config(
    path: str | os.PathLike[str], flags: RawSettings = _NO_FLAGS, *, environ: Mapping[str, str] | None = None
) -> AgentConfig:
    """Read agent.conf. `flags` win over it; with `environ`, `$NAME` in the file stands for a variable.

    Raises:
        ConfigurationError: with file, line and column where there is such a place.
    """
    if not Path(path).exists():
        raise ConfigurationError(f"could not find config file {os.fspath(path)}: please use the -config flag")
    later = Later()
    with Fields(load(path, environ=environ), "") as file:
        agent, plugins, health = file.block("agent"), file.block("plugins"), file.block("health_checks")
        _read_telemetry(file, later)
    if plugins is None:
        raise file.error("plugins section must be configured")
    if agent is None:
        raise file.error("agent section must be configured")
    raw = read_agent_section(agent, later).overridden_by(flags)
    chosen = read_plugins(plugins)
    try:
        return AgentConfig(
            trust_domain=_trust_domain(raw),
            server_address=_required(raw.server_address, "server_address"),
            server_port=_required(raw.server_port, "server_port"),
            trust=read_trust(raw),
            rebootstrap=read_rebootstrap(raw, later),
            data_dir=Path(raw.data_dir or "."),
            keys_directory=chosen.keys_directory,
            node_attestor=chosen.node_attestor,
            workload_attestors=chosen.workload_attestors,
            socket_path=_public_socket(raw),
            workload_api=not raw.disable_workload_api,
            sds=None if raw.disable_sds_api else raw.sds or SecretSettings(),
            admin_socket_path=_admin_socket(raw),
            join_token=_join_token(raw),
            join_token_file=Path(raw.join_token_file) if raw.join_token_file else None,
            sync=_sync(raw),
            paged_sync=raw.use_sync_authorized_entries is not False,
            jwt=_jwt(raw),
            allowed_foreign_jwt_claims=frozenset(raw.allowed_foreign_jwt_claims or ()),
            allow_unauthenticated_verifiers=bool(raw.allow_unauthenticated_verifiers),
            log=_log(raw),
            log_selectors=raw.log_selectors or (),
            health=_health(health),
            warnings=tuple(later.warnings),
        )
    except ConfigurationError as error:
        if error.file is None:
            error.file = os.fspath(path)
        raise


def _read_telemetry(file: Fields, later: Later) -> None:
    telemetry = file.block("telemetry")
    if telemetry is None:
        return
    with telemetry:
        for sink in _SINKS:
            later.block(telemetry, sink, "metrics for other programs")
        telemetry.bodies("InMem")  # in-process counters are always kept
        for key in ("AllowedLabels", "BlockedLabels", "AllowedPrefixes", "BlockedPrefixes"):
            later.texts(telemetry, key, "metrics for other programs")
        for key in ("EnableTrustDomainLabel", "EnableHostnameLabel", "EnableRuntimeMetrics"):
            telemetry.boolean(key)
        telemetry.text("MetricPrefix")


def _trust_domain(raw: RawSettings) -> TrustDomain:
    text = _required(raw.trust_domain, "trust_domain")
    try:
        return TrustDomain.parse(text)
    except InvalidSpiffeIDError as error:
        raise ConfigurationError(f"could not parse trust_domain {text!r}: {error}") from error


def _public_socket(raw: RawSettings) -> Path | None:
    if raw.disable_workload_api and raw.disable_sds_api:
        return None
    return Path(raw.socket_path or DEFAULT_SOCKET)


def _admin_socket(raw: RawSettings) -> Path | None:
    """Refuse an admin socket where every workload may look, and so also where a sibling could be put in its place."""
    if not raw.admin_socket_path:
        return None
    admin, public = raw.admin_socket_path, raw.socket_path or str(DEFAULT_SOCKET)
    # Both as written and as links lead now; the folders are looked at again when the sockets are made.
    for place in (Path.absolute, Path.resolve):
        if place(Path(os.path.normpath(admin))).is_relative_to(place(Path(os.path.normpath(public))).parent):
            raise ConfigurationError(
                "admin socket cannot be in the same directory or a subdirectory as that of the agent's socket"
            )
    return Path(admin)


def _join_token(raw: RawSettings) -> str:
    if raw.join_token and raw.join_token_file:
        raise ConfigurationError("only one of join_token or join_token_file can be specified, not both")
    return raw.join_token or ""


def _sync(raw: RawSettings) -> SyncSettings:
    target = raw.availability_target or timedelta()
    if target and target < MINIMUM_AVAILABILITY_TARGET:
        raise ConfigurationError("availability_target must be at least 24h0m0s")
    limit = raw.x509_svid_cache_max_size or 0
    if limit < 0:
        raise ConfigurationError("x509_svid_cache_max_size should not be negative")
    try:
        key_type = KeyType(raw.workload_x509_svid_key_type or KeyType.EC_P256)
    except ValueError:
        known = ", ".join(KeyType)
        raise ConfigurationError(
            f"unsupported workload_x509_svid_key_type {raw.workload_x509_svid_key_type!r}, expected one of {known}"
        ) from None
    defaults = SyncSettings()
    return SyncSettings(
        interval=raw.sync_interval or defaults.interval,
        svid_limit=limit or defaults.svid_limit,
        availability_target=target,
        key_type=key_type,
    )


def _jwt(raw: RawSettings) -> JWTSettings:
    limit, timeout = raw.jwt_svid_cache_max_size or 0, raw.jwt_svid_cache_hit_timeout
    if limit < 0:
        raise ConfigurationError("jwt_svid_cache_max_size should not be negative")
    if timeout is not None and timeout > LONGEST_HIT_TIMEOUT:
        raise ConfigurationError("jwt_svid_cache_hit_timeout should not be more than 30s")
    defaults = JWTSettings()
    return JWTSettings(limit or defaults.limit, timeout or defaults.hit_timeout)


def _log(raw: RawSettings) -> LogSettings:
    level, format_ = raw.log_level or "INFO", (raw.log_format or "text").lower()
    parse_level(level)
    if format_ not in ("text", "json"):
        raise ConfigurationError(f"unknown log format {raw.log_format!r}; use text or json")
    return LogSettings(level, format_, Path(raw.log_file) if raw.log_file else None, bool(raw.log_source_location))


def _health(checks: Fields | None) -> HealthListenerSettings | None:
    if checks is None:
        return None
    defaults = HealthListenerSettings()
    with checks:
        enabled = checks.boolean("listener_enabled")
        settings = HealthListenerSettings(
            checks.text("bind_address") or defaults.host,
            checks.integer("bind_port", minimum=0, maximum=65535) or defaults.port,
            checks.text("live_path") or defaults.live_path,
            checks.text("ready_path") or defaults.ready_path,
        )
    return settings if enabled else None


def _required(value: T | None, name: str) -> T:
    if not value:
        raise ConfigurationError(f"{name} must be configured")
    return value
