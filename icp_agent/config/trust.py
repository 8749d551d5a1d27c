"""Where the first trust comes from, and whether it is asked for again: what belongs together, what excludes what."""

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from authsec_sdk.errors import ConfigurationError, InvalidEndpointError
from authsec_sdk.workloadapi import resolve_endpoint
from icp_agent.bootstrap import BootstrapTrust, BundleFormat
from icp_agent.config.later import Later
from icp_agent.config.raw import RawSettings
from icp_agent.domain.trust_watch import DEFAULT_DELAY, RebootstrapMode, RebootstrapSettings


def read_trust(raw: RawSettings) -> BootstrapTrust:
    """Exactly one source of the first trust, or none by name.

    Raises:
        ConfigurationError: there is none, or more than one, or it cannot be used.
    """
    given = {
        "insecure_bootstrap": bool(raw.insecure_bootstrap),
        "trust_bundle_url": bool(raw.trust_bundle_url),
        "trust_bundle_path": bool(raw.trust_bundle_path),
        "trust_bundle_spiffe_workload_api": bool(raw.trust_bundle_spiffe_workload_api),
    }
    chosen = [name for name, said in given.items() if said]
    if raw.trust_bundle_unix_socket and chosen != ["trust_bundle_url"]:
        if raw.trust_bundle_spiffe_workload_api:
            raise ConfigurationError("trust_bundle_unix_socket can not be used with trust_bundle_spiffe_workload_api")
        raise ConfigurationError("if trust_bundle_unix_socket is specified, so must be trust_bundle_url")
    if not chosen:
        raise ConfigurationError(
            "trust_bundle_path, trust_bundle_url or trust_bundle_spiffe_workload_api must be configured unless "
            "insecure_bootstrap is set"
        )
    if len(chosen) > 1:
        raise ConfigurationError(f"only one of {' or '.join(chosen)} can be specified, not {len(chosen)} of them")
    if raw.trust_bundle_url:
        _check_url(raw.trust_bundle_url, over_socket=bool(raw.trust_bundle_unix_socket))
    if raw.trust_bundle_spiffe_workload_api:
        _check_endpoint(raw.trust_bundle_spiffe_workload_api)
    try:
        format_ = BundleFormat(raw.trust_bundle_format or BundleFormat.PEM)
    except ValueError:
        raise ConfigurationError('invalid value for trust_bundle_format, expected "pem" or "spiffe"') from None
    return BootstrapTrust(
        path=Path(raw.trust_bundle_path) if raw.trust_bundle_path else None,
        url=raw.trust_bundle_url or "",
        unix_socket=Path(raw.trust_bundle_unix_socket) if raw.trust_bundle_unix_socket else None,
        workload_api=raw.trust_bundle_spiffe_workload_api or "",
        insecure=bool(raw.insecure_bootstrap),
        format=format_,
        server=(raw.server_address or "", raw.server_port or 0) if raw.trust_bundle_unix_socket else ("", 0),
    )


def read_rebootstrap(raw: RawSettings, later: Later) -> RebootstrapSettings:
    """Whether lost trust is asked for again.

    Raises:
        ConfigurationError: the mode is unknown, or there is no trust to ask for.
    """
    try:
        mode = RebootstrapMode(raw.rebootstrap_mode or RebootstrapMode.NEVER)
    except ValueError:
        raise ConfigurationError(f"unknown rebootstrap mode specified: {raw.rebootstrap_mode}") from None
    if mode is RebootstrapMode.NEVER:
        if raw.rebootstrap_delay is not None:
            later.without_effect("rebootstrap_delay", "rebootstrap_mode is never")
    elif raw.insecure_bootstrap:
        raise ConfigurationError("insecure_bootstrap option can not be used with rebootstrapping")
    delay = DEFAULT_DELAY if raw.rebootstrap_delay is None else raw.rebootstrap_delay
    return RebootstrapSettings(mode, delay)


def _check_url(url: str, *, over_socket: bool) -> None:
    if not over_socket:
        if not url.startswith("https://"):
            raise ConfigurationError("trust bundle URL must start with https://")
        return
    if not url.startswith("http://"):
        raise ConfigurationError("trust bundle URL must start with http:// when used with trust bundle unix socket")
    for key, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        for prefix in ("spiffe-", "spire-"):
            if key.startswith(prefix):
                raise ConfigurationError(f"trust_bundle_url query params can not start with {prefix}")


def _check_endpoint(address: str) -> None:
    try:
        resolve_endpoint(address)
    except InvalidEndpointError as error:
        raise ConfigurationError(
            f"trust_bundle_spiffe_workload_api is not a valid SPIFFE Workload API endpoint address: {error}"
        ) from error
