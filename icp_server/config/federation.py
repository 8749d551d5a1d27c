"""The `federation` section: where our bundle is served, and which trust domains' bundles are followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from authsec_sdk.errors import InvalidEndpointError, InvalidSpiffeIDError
from authsec_sdk.federation.url import check_url
from authsec_sdk.hcl import Body, Fields
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.config.schema import Key, Kind, Schema
from icp_server.config.section import open_section
from icp_server.domain.federation import Endpoint

SHORTEST_REFRESH: Final = timedelta(minutes=1)
LONG_REFRESH: Final = timedelta(hours=24)

_NO_ACME: Final = (
    "certificates are not ordered by ACME here: let certbot or another client keep them, and name its files in "
    "serving_cert_file, which are read again every file_sync_interval"
)

FEDERATION: Final[Schema] = MappingProxyType(
    {"bundle_endpoint": Key(Kind.BLOCK), "federates_with": Key(Kind.BLOCK)},
)
BUNDLE_ENDPOINT: Final[Schema] = MappingProxyType(
    {
        "address": Key(Kind.TEXT),
        "port": Key(Kind.INTEGER),
        "refresh_hint": Key(Kind.DURATION),
        "profile": Key(Kind.BLOCK),
        "acme": Key(Kind.BLOCK, not_yet=_NO_ACME),
    }
)
HTTPS_WEB: Final[Schema] = MappingProxyType(
    {"acme": Key(Kind.BLOCK, not_yet=_NO_ACME), "serving_cert_file": Key(Kind.BLOCK)}
)
SERVING_CERT_FILE: Final[Schema] = MappingProxyType(
    {
        "cert_file_path": Key(Kind.TEXT),
        "key_file_path": Key(Kind.TEXT),
        "file_sync_interval": Key(Kind.DURATION),
    }
)
NOTHING: Final[Schema] = MappingProxyType({})
FEDERATES_WITH: Final[Schema] = MappingProxyType(
    {"bundle_endpoint_url": Key(Kind.TEXT), "bundle_endpoint_profile": Key(Kind.BLOCK)}
)
HTTPS_SPIFFE: Final[Schema] = MappingProxyType({"endpoint_spiffe_id": Key(Kind.TEXT)})


@dataclass(frozen=True, slots=True)
class ServingFiles:
    """A certificate of the web's authorities, in files that somebody else keeps fresh."""

    certificate: Path
    key: Path
    sync_every: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """Our bundle endpoint. Without files it is `https_spiffe`: it shows the server's own X509-SVID."""

    address: str = "0.0.0.0"  # noqa: S104  (SPIRE's own default: other trust domains call from other hosts)
    port: int = 443
    refresh_hint: timedelta = timedelta(minutes=5)
    files: ServingFiles | None = None


@dataclass(frozen=True, slots=True)
class Federation:
    """What the section says; nothing by default."""

    served: ServedBundle | None = None
    federates_with: Mapping[TrustDomain, Endpoint] = field(default_factory=lambda: MappingProxyType({}))


def read_federation(server: Fields, trust_domain: TrustDomain, notes: list[str]) -> Federation:
    """Read the section, if there is one.

    Raises:
        ConfigurationError: with file, line and column.
    """
    block = server.block("federation")
    if block is None:
        return Federation()
    open_section(block, FEDERATION, notes)
    endpoint = block.block("bundle_endpoint")
    return Federation(
        None if endpoint is None else _served(endpoint, notes),
        MappingProxyType(
            dict(_followed(name, body, trust_domain, notes) for name, body in block.labelled("federates_with"))
        ),
    )


def _served(block: Fields, notes: list[str]) -> ServedBundle:
    open_section(block, BUNDLE_ENDPOINT, notes)
    defaults = ServedBundle()
    hint = block.duration("refresh_hint") or defaults.refresh_hint
    if hint >= LONG_REFRESH:
        notes.append(
            f"{block.where}.refresh_hint is long: others learn that late of an authority that was replaced out of turn"
        )
    if hint < SHORTEST_REFRESH:
        notes.append(f"{block.where}.refresh_hint is short: no server looks more often than once a minute")
        hint = SHORTEST_REFRESH
    return ServedBundle(
        address=(block.text("address") or defaults.address).strip("[]"),
        port=block.integer("port", minimum=0, maximum=65535) or defaults.port,
        refresh_hint=hint,
        files=_profile(block, notes),
    )


def _profile(block: Fields, notes: list[str]) -> ServingFiles | None:
    if not block.has("profile"):
        notes.append(
            f"{block.where} names no profile: it is served as https_spiffe; say so, upstream will insist on it"
        )
        return None
    name, body = _one(block, "profile")
    inner = Fields(body, f"{block.where}.profile.{name}")
    if name == "https_spiffe":
        open_section(inner, NOTHING, notes)
        return None
    open_section(inner, HTTPS_WEB, notes)
    files = inner.block("serving_cert_file")
    if files is None:
        raise inner.error("https_web needs serving_cert_file: a certificate that the clients' authorities know")
    open_section(files, SERVING_CERT_FILE, notes)
    certificate, key = files.text("cert_file_path"), files.text("key_file_path")
    if not certificate or not key:
        raise files.error(f"{files.where} needs cert_file_path and key_file_path")
    every = files.duration("file_sync_interval", minimum=timedelta()) or ServingFiles(Path(), Path()).sync_every
    return ServingFiles(Path(certificate), Path(key), every)


def _followed(name: str, body: Body, own: TrustDomain, notes: list[str]) -> tuple[TrustDomain, Endpoint]:
    block = open_section(Fields(body, f'server.federation.federates_with["{name}"]'), FEDERATES_WITH, notes)
    try:
        trust_domain = TrustDomain.parse(name)
    except InvalidSpiffeIDError as error:
        raise block.error(f"{name!r} is no trust domain: {error}") from error
    if trust_domain == own:
        raise block.error(f"{own} is this server's own trust domain: it does not federate with itself")
    url = block.text("bundle_endpoint_url")
    if not url:
        raise block.error(f"{block.where}.bundle_endpoint_url must be configured")
    try:
        check_url(url)
    except InvalidEndpointError as error:
        raise block.error(f"{block.where}: {error}", "bundle_endpoint_url") from error
    profile, inner = _one(block, "bundle_endpoint_profile")
    settings = Fields(inner, f"{block.where}.bundle_endpoint_profile.{profile}")
    if profile == "https_web":
        open_section(settings, NOTHING, notes)
        return trust_domain, Endpoint(url)
    open_section(settings, HTTPS_SPIFFE, notes)
    text = settings.text("endpoint_spiffe_id") or ""
    try:
        server_id = SpiffeID.parse(text)
    except InvalidSpiffeIDError as error:
        raise settings.error(f"could not get endpoint SPIFFE ID: {error}") from error
    if not server_id.path:
        raise settings.error(f"{server_id} is a trust domain: name the SPIFFE ID of the server of its bundle")
    return trust_domain, Endpoint(url, server_id)


def _one(block: Fields, key: str) -> tuple[str, Body]:
    """The one profile a block names."""
    found = block.labelled(key)
    if len(found) != 1:
        raise block.error(f"{block.where} needs one {key}, not {len(found)}", key if block.has(key) else None)
    name, body = found[0]
    if name not in ("https_spiffe", "https_web"):
        raise block.error(f'{key} {name!r} in {block.where} is unknown; use "https_spiffe" or "https_web"', key)
    return name, body
