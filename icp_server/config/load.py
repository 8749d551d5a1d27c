"""From `server.conf` and the flags of `run` to a `ServerConfig`; flags win over the file, the file over defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from authsec_sdk import hcl
from authsec_sdk.errors import ConfigurationError, InvalidSpiffeIDError
from authsec_sdk.hcl import Body, Fields
from authsec_sdk.hcl.durations import format_duration
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.reserved_ids import is_reserved
from icp_common.logs import parse_level
from icp_server.config import schema
from icp_server.config.choice import choice
from icp_server.config.federation import read_federation
from icp_server.config.model import (
    DEFAULT_BIND_ADDRESS,
    DEFAULT_BIND_PORT,
    DEFAULT_CONFIG_PATH,
    DEFAULT_SOCKET_PATH,
    HealthListener,
    Lifetimes,
    Listeners,
    LogSettings,
    RateLimitSwitches,
    ServerConfig,
)
from icp_server.config.plugins import read_plugins
from icp_server.config.section import open_section
from icp_server.config.tokens import KEY_TYPES, read_tokens
from icp_server.domain.ca_slots import longest_svid_ttl, shortest_ca_ttl
from icp_server.domain.composer import ReadComposer
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CASubject
from icp_server.ports import ReadNodeAttestor

LOG_FORMATS: Final = ("text", "json")

_NONE: Final[Mapping[str, ReadComposer]] = MappingProxyType({})
_SHORTEST: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the flags of `run` and `validate` say; None leaves it to the file."""

    config: Path = DEFAULT_CONFIG_PATH
    expand_env: bool = False
    bind_address: str | None = None
    bind_port: int | None = None
    data_dir: str | None = None
    log_file: str | None = None
    log_format: str | None = None
    log_level: str | None = None
    log_source_location: bool | None = None
    socket_path: str | None = None
    trust_domain: str | None = None


def load_config(
    overrides: Overrides,
    environ: Mapping[str, str],
    node_attestors: Mapping[str, ReadNodeAttestor],
    composers: Mapping[str, ReadComposer] = _NONE,
) -> ServerConfig:
    """Read and check the configuration; nothing but the file itself is touched.

    `node_attestors` and `composers` are those there are, each by what reads its settings.

    Raises:
        ConfigurationError: with file, line and column where there are such.
    """
    path = overrides.config
    if not path.exists():
        raise ConfigurationError(f"could not find config file {path.absolute()}: please use the -config flag")
    body = hcl.load(path, environ=environ if overrides.expand_env else None)
    return parse_config(body, overrides, node_attestors, composers)


def parse_config(
    body: Body,
    overrides: Overrides,
    node_attestors: Mapping[str, ReadNodeAttestor],
    composers: Mapping[str, ReadComposer] = _NONE,
) -> ServerConfig:
    """Check a parsed file.

    Raises:
        ConfigurationError: with file, line and column where there are such.
    """
    notes: list[str] = []
    top = open_section(Fields(body, ""), schema.TOP_LEVEL, notes)
    block = top.block("server")
    if block is None:
        raise top.error("server section must be configured")
    server = open_section(block, schema.SERVER, notes)
    trust_domain = _trust_domain(server, overrides)
    lifetimes = _lifetimes(server, notes)
    data_dir = overrides.data_dir or server.text("data_dir")
    if not data_dir:
        raise server.error("data_dir must be configured")
    if telemetry := top.block("telemetry"):
        open_section(telemetry, schema.TELEMETRY, notes)
    experimental = server.block("experimental")
    if experimental:
        open_section(experimental, schema.EXPERIMENTAL, notes)
    return ServerConfig(
        trust_domain=trust_domain,
        data_dir=Path(data_dir),
        listeners=_listeners(server, overrides),
        log=_log(server, overrides),
        lifetimes=lifetimes,
        ca_key_type=KeyType(choice(server, "ca_key_type", KEY_TYPES, KeyType.EC_P256.value)),
        ca_subject=_subject(server, notes),
        tokens=read_tokens(server, experimental, notes),
        admin_ids=_admin_ids(server, trust_domain),
        federation=read_federation(server, trust_domain, notes),
        audit_log_enabled=server.boolean("audit_log_enabled") or False,
        rate_limits=_rate_limits(server, notes),
        agent_spiffe_id_as_selector=bool(experimental and experimental.boolean("agent_spiffe_id_as_selector")),
        require_strong_selectors=server.boolean("require_strong_selectors") or False,
        health=_health(top, notes),
        plugins=read_plugins(top, notes, node_attestors, composers),
        warnings=tuple(notes),
    )


def _trust_domain(server: Fields, overrides: Overrides) -> TrustDomain:
    text = overrides.trust_domain or server.text("trust_domain")
    if not text:
        raise server.error("trust_domain must be configured")
    try:
        return TrustDomain.parse(text)
    except InvalidSpiffeIDError as error:
        raise server.error(f"could not parse trust_domain {text!r}: {error}", "trust_domain") from error


def _listeners(server: Fields, overrides: Overrides) -> Listeners:
    port = overrides.bind_port or server.integer("bind_port", minimum=0, maximum=65535)
    return Listeners(
        address=(overrides.bind_address or server.text("bind_address") or DEFAULT_BIND_ADDRESS).strip("[]"),
        port=port or DEFAULT_BIND_PORT,
        socket_path=Path(overrides.socket_path or server.text("socket_path") or DEFAULT_SOCKET_PATH),
    )


def _log(server: Fields, overrides: Overrides) -> LogSettings:
    level = overrides.log_level or server.text("log_level") or "INFO"
    format_ = overrides.log_format or choice(server, "log_format", LOG_FORMATS, "text")
    if format_.lower() not in LOG_FORMATS:
        raise ConfigurationError(f"log format {format_!r} is unknown; use one of {', '.join(LOG_FORMATS)}")
    try:
        parse_level(level)
    except ConfigurationError as error:
        raise error if overrides.log_level else server.error(error.message, "log_level") from error
    file = overrides.log_file or server.text("log_file")
    source = server.boolean("log_source_location")
    return LogSettings(
        level=level.upper(),
        format=format_.lower(),
        file=Path(file) if file else None,
        source_location=bool(source if overrides.log_source_location is None else overrides.log_source_location),
    )


def _lifetimes(server: Fields, notes: list[str]) -> Lifetimes:
    defaults = Lifetimes()
    lifetimes = Lifetimes(
        ca=server.duration("ca_ttl", minimum=_SHORTEST) or defaults.ca,
        x509_svid=server.duration("default_x509_svid_ttl", minimum=_SHORTEST) or defaults.x509_svid,
        agent=server.duration("agent_ttl", minimum=_SHORTEST),
        jwt_svid=server.duration("default_jwt_svid_ttl", minimum=_SHORTEST) or defaults.jwt_svid,
    )
    notes.extend(_short_lived_ca(lifetimes))
    return lifetimes


def _short_lived_ca(lifetimes: Lifetimes) -> list[str]:
    """Warn of SVIDs that may be cut short by the end of the CA that signs them."""
    cap = longest_svid_ttl(lifetimes.ca)
    chosen = {"default_x509_svid_ttl": lifetimes.x509_svid, "default_jwt_svid_ttl": lifetimes.jwt_svid}
    if lifetimes.agent:
        chosen["agent_ttl"] = lifetimes.agent
    return [_too_long(name, ttl, cap) for name, ttl in chosen.items() if ttl > cap]


def _too_long(name: str, ttl: timedelta, cap: timedelta) -> str:
    advice = f"Please set {name} to {format_duration(cap)} or less"
    if needed := shortest_ca_ttl(ttl):
        advice += f", or the ca_ttl to {format_duration(needed)} or more"
    return f"{name} is too high: SVIDs with shorter lifetimes may be issued when the CA rotates. {advice}"


def _subject(server: Fields, notes: list[str]) -> CASubject:
    block = server.block("ca_subject")
    if block is None:
        return CASubject()
    open_section(block, schema.CA_SUBJECT, notes)
    subject = CASubject(
        country=block.texts("country") or (),
        organization=block.texts("organization") or (),
        common_name=block.text("common_name") or "",
    )
    for country in subject.country:
        if len(country) != 2 or not country.isascii():  # RFC 5280 appendix A: PrintableString (SIZE (2))
            raise block.error(f"country {country!r} in {block.where} is no two-letter country code", "country")
    if not subject:
        notes.append("ca_subject configurable is set but empty; the default will be used")
    return subject


def _admin_ids(server: Fields, trust_domain: TrustDomain) -> frozenset[SpiffeID]:
    ids = set()
    for text in server.texts("admin_ids") or ():
        try:
            spiffe_id = SpiffeID.parse(text)
        except InvalidSpiffeIDError as error:
            raise server.error(f"could not parse admin ID {text!r}: {error}", "admin_ids") from error
        if not spiffe_id.member_of(trust_domain):
            raise server.error(
                f"admin ID {text!r} is not in trust domain {trust_domain}: federation is not supported yet", "admin_ids"
            )
        if is_reserved(spiffe_id):
            raise server.error(f"admin ID {text!r} is reserved: agents and servers are no administrators", "admin_ids")
        ids.add(spiffe_id)
    return frozenset(ids)


def _rate_limits(server: Fields, notes: list[str]) -> RateLimitSwitches:
    block = server.block("ratelimit")
    if block is None:
        return RateLimitSwitches()
    open_section(block, schema.RATE_LIMIT, notes)
    return RateLimitSwitches(
        attestation=block.boolean("attestation") is not False,
        signing=block.boolean("signing") is not False,
    )


def _health(top: Fields, notes: list[str]) -> HealthListener | None:
    block = top.block("health_checks")
    if block is None:
        return None
    open_section(block, schema.HEALTH_CHECKS, notes)
    defaults = HealthListener()
    listener = HealthListener(
        bind_address=(block.text("bind_address") or defaults.bind_address).strip("[]"),
        bind_port=block.integer("bind_port", minimum=0, maximum=65535) or defaults.bind_port,
        live_path=block.text("live_path") or defaults.live_path,
        ready_path=block.text("ready_path") or defaults.ready_path,
    )
    for key, path in (("live_path", listener.live_path), ("ready_path", listener.ready_path)):
        if not path.startswith("/"):
            raise block.error(f"{key!r} in {block.where} must begin with '/'", key)
    if listener.live_path == listener.ready_path:
        raise block.error(f"live_path and ready_path in {block.where} must differ", "ready_path")
    return listener if block.boolean("listener_enabled") else None
