"""The first trust: whom the agent believes to be the server before it has a bundle of its own."""

import asyncio
import http.client
import logging
import os
import ssl
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

from authsec_sdk.errors import ConfigurationError, InvalidBundleError
from authsec_sdk.spiffe import TrustDomain, X509Bundle
from authsec_sdk.spiffe.bundle_json import parse_bundle_document
from icp_agent.ports import ServerUnavailableError

logger = logging.getLogger(__name__)

MAXIMUM_BUNDLE_BYTES: Final = 4 * 1024 * 1024
_DOWNLOAD_SECONDS: Final = 30.0
_READ_SECONDS: Final = 10.0
_REDIRECTS: Final = 5


class BundleFormat(StrEnum):
    """How a bootstrap bundle is written, by the names of `trust_bundle_format`."""

    PEM = "pem"
    SPIFFE = "spiffe"


@dataclass(frozen=True, slots=True)
class BootstrapTrust:
    """Where the first bundle comes from: a file, a URL, or nowhere (`insecure`). Exactly one of the three is given."""

    path: Path | None = None
    url: str = ""
    insecure: bool = False
    format: BundleFormat = BundleFormat.PEM


async def bootstrap_bundle(trust: BootstrapTrust, trust_domain: TrustDomain) -> X509Bundle | None:
    """Read the first bundle; None means that the server is to be believed unseen.

    Called for each attempt to attest, so a file put right or a URL that answers again is taken up without a restart.

    Raises:
        InvalidBundleError: what was read is no bundle, or an empty one.
        ConfigurationError: the file cannot be read.
        ServerUnavailableError: the URL does not answer.
    """
    if trust.insecure:
        logger.warning(
            "Insecure bootstrap enabled; skipping server certificate verification: whoever answers first controls the "
            "identities of this node. For tests only: use trust_bundle_path or trust_bundle_url. trust_domain=%s",
            trust_domain,
        )
        return None
    if trust.url:
        data = await asyncio.to_thread(download, trust.url)
        origin = trust.url
    else:
        assert trust.path is not None
        data = await asyncio.to_thread(_read, trust.path)
        origin = str(trust.path)
    return _parse(data, trust.format, trust_domain, origin)


def download(url: str, *, context: ssl.SSLContext | None = None) -> bytes:
    """Fetch what an `https` URL serves, verified by the system's trust store (`SSL_CERT_FILE` is honoured).

    Bounded: 4 MiB, 30 s in all, five redirects, none of them away from https.

    Raises:
        ServerUnavailableError: no answer, no 200, too slow, too large, or redirected elsewhere.
    """
    context = context or ssl.create_default_context()
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    for _ in range(_REDIRECTS + 1):
        body, redirect = _get(url, context, deadline)
        if redirect is None:
            return body
        url = urljoin(url, redirect)
    raise ServerUnavailableError(f"trust bundle URL redirects more than {_REDIRECTS} times")


def _get(url: str, context: ssl.SSLContext, deadline: float) -> tuple[bytes, str | None]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ServerUnavailableError(f"trust bundle URL {url!r} is not https: not fetched")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=_READ_SECONDS, context=context)
    try:
        connection.request("GET", target, headers={"Accept": "*/*", "User-Agent": "icp-agent"})
        response = connection.getresponse()
        location = response.getheader("Location")
        if response.status in (301, 302, 303, 307, 308) and location:
            return b"", location
        if response.status != http.client.OK:
            raise ServerUnavailableError(f"trust bundle URL {url!r} answers {response.status} {response.reason}")
        return _body(response, url, deadline), None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerUnavailableError(f"unable to fetch trust bundle URL {url!r}: {error}") from error
    finally:
        connection.close()


def _body(response: http.client.HTTPResponse, url: str, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.read1(65536):
        body += chunk
        if len(body) > MAXIMUM_BUNDLE_BYTES:
            raise ServerUnavailableError(f"trust bundle URL {url!r} serves more than {MAXIMUM_BUNDLE_BYTES} bytes")
        if time.monotonic() > deadline:
            raise ServerUnavailableError(f"trust bundle URL {url!r} takes more than {_DOWNLOAD_SECONDS:.0f} s")
    if response.length:
        raise ServerUnavailableError(f"unable to fetch trust bundle URL {url!r}: it ends before its announced end")
    return bytes(body)


def _read(path: Path) -> bytes:
    try:
        # Not blocking: a FIFO put in the file's place must not hold up the agent for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(MAXIMUM_BUNDLE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"unable to read trust bundle {str(path)!r}: {error.strerror or error}") from error
    if len(data) > MAXIMUM_BUNDLE_BYTES:
        raise InvalidBundleError(f"trust bundle {str(path)!r} is larger than {MAXIMUM_BUNDLE_BYTES} bytes")
    return data


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
