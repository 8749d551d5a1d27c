"""The first trust: whom the agent believes to be the server before it has a bundle of its own."""

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from authsec_sdk.errors import ConfigurationError, InvalidBundleError
from authsec_sdk.spiffe import TrustDomain, X509Bundle
from authsec_sdk.spiffe.bundle_json import parse_bundle_document
from icp_agent.domain.trust_watch import BootstrapAttempt
from icp_agent.files import read_bounded

logger = logging.getLogger(__name__)

MAXIMUM_BUNDLE_BYTES: Final = 4 * 1024 * 1024


class BundleFormat(StrEnum):
    """How a bootstrap bundle is written, by the names of `trust_bundle_format`."""

    PEM = "pem"
    SPIFFE = "spiffe"


@dataclass(frozen=True, slots=True)
class BootstrapTrust:
    """Where the first bundle comes from: a file, a URL, a Workload API, or nowhere (`insecure`); exactly one of them.

    With `unix_socket` the URL is asked for there, over plain HTTP, and told which `server` the bundle is for.
    """

    path: Path | None = None
    url: str = ""
    insecure: bool = False
    unix_socket: Path | None = None
    workload_api: str = ""
    server: tuple[str, int] = ("", 0)
    format: BundleFormat = BundleFormat.PEM


async def bootstrap_bundle(
    trust: BootstrapTrust, trust_domain: TrustDomain, attempt: BootstrapAttempt
) -> X509Bundle | None:
    """Read the first bundle; None means that the server is to be believed unseen.

    Called for each attempt to attest, so a file put right or a URL that answers again is taken up without a restart.

    Raises:
        InvalidBundleError: what was read is no bundle, or an empty one.
        ConfigurationError: the file cannot be read.
        ServerUnavailableError: the URL, the socket or the Workload API does not answer.
    """
    if trust.insecure:
        logger.warning(
            "Insecure bootstrap enabled; skipping server certificate verification: whoever answers first controls the "
            "identities of this node. For tests only: use trust_bundle_path or trust_bundle_url. trust_domain=%s",
            trust_domain,
        )
        return None
    if trust.workload_api:
        from icp_agent.download import from_workload_api

        return await from_workload_api(trust.workload_api, trust_domain)
    if trust.unix_socket is not None:
        from icp_agent.download import download_from_socket

        origin = _told(trust, trust_domain, attempt)
        data = await download_from_socket(trust.unix_socket, origin, maximum=MAXIMUM_BUNDLE_BYTES)
    elif trust.url:
        from icp_agent.download import download

        data = await download(trust.url, maximum=MAXIMUM_BUNDLE_BYTES)
        origin = trust.url
    else:
        assert trust.path is not None
        data = await asyncio.to_thread(_read, trust.path)
        origin = str(trust.path)
    return _parse(data, trust.format, trust_domain, origin)


def _told(trust: BootstrapTrust, trust_domain: TrustDomain, attempt: BootstrapAttempt) -> str:
    """The URL with what a service of this host may want to know, by the names upstream gives it."""
    split = urlsplit(trust.url)
    parameters = dict(parse_qsl(split.query, keep_blank_values=True)) | {
        "spire-attest-mode": attempt.mode,
        "spire-connection-attempts": str(attempt.number),
        "spire-attest-start-time": attempt.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "spire-server-address": trust.server[0],
        "spire-server-port": str(trust.server[1]),
        "spiffe-trust-domain": trust_domain.name,
    }
    return urlunsplit(split._replace(query=urlencode(sorted(parameters.items())), fragment=""))


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAXIMUM_BUNDLE_BYTES, "trust bundle")
    except FileNotFoundError as error:
        raise ConfigurationError(f"unable to read trust bundle {str(path)!r}: {error.strerror}") from error


def _parse(data: bytes, format_: BundleFormat, trust_domain: TrustDomain, origin: str) -> X509Bundle:
    try:
        if format_ is BundleFormat.SPIFFE:
            bundle = parse_bundle_document(trust_domain, data).x509_bundle()
        else:
            bundle = X509Bundle.parse_pem(trust_domain, data)
    except InvalidBundleError as error:
        raise InvalidBundleError(f"trust bundle {origin!r}: {error}") from error
    if not len(bundle):
        raise InvalidBundleError(f"trust bundle {origin!r} holds no X.509 authority of {trust_domain}")
    return bundle
