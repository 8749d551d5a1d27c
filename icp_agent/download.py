"""Fetches the first trust bundle; apart from `bootstrap`, as few agents need it, and its weight."""

import asyncio
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from authsec_sdk.errors import SpiffeError
from authsec_sdk.federation.https import https_get
from authsec_sdk.spiffe import TrustDomain, X509Bundle
from authsec_sdk.workloadapi import WorkloadAPIClient
from icp_agent.ports import ServerUnavailableError
from icp_common.http_exchange import Request, exchange

_DOWNLOAD_SECONDS: Final = 30.0


async def download(
    url: str, *, maximum: int, context: ssl.SSLContext | None = None, seconds: float = _DOWNLOAD_SECONDS
) -> bytes:
    """Fetch what an `https` URL serves, verified by the system's trust store (`SSL_CERT_FILE` is honoured).

    Bounded: `maximum` bytes, `seconds` for everything together, five redirects, none of them away from https.

    Raises:
        ServerUnavailableError: no answer, no 200, too slow, too large, a web page, or redirected elsewhere.
    """
    try:
        return await https_get(url, context or ssl.create_default_context(), limit=maximum, timeout=seconds)
    except SpiffeError as error:
        raise ServerUnavailableError(f"unable to fetch trust bundle URL: {error}") from error


async def download_from_socket(path: Path, url: str, *, maximum: int, seconds: float = _DOWNLOAD_SECONDS) -> bytes:
    """Fetch an `http` URL from whoever listens on a Unix socket: whoever may write there is trusted by that.

    Bounded: `maximum` bytes, `seconds` for everything together, no redirects.

    Raises:
        ServerUnavailableError: no answer, no 200, too slow, or too large.
    """
    split = urlsplit(url)
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(str(path))
            answer = await exchange(reader, writer, Request("GET", split.netloc, target), limit=maximum)
    except TimeoutError as error:
        raise ServerUnavailableError(f"{path} takes more than {seconds:g} s for the trust bundle") from error
    except (SpiffeError, OSError, ValueError) as error:
        raise ServerUnavailableError(f"unable to fetch trust bundle from {path}: {error}") from error
    if answer.status != 200:
        raise ServerUnavailableError(f"error downloading trust bundle from {path}: HTTP {answer.status}")
    return answer.body


async def from_workload_api(
    address: str, trust_domain: TrustDomain, *, seconds: float = _DOWNLOAD_SECONDS
) -> X509Bundle:
    """Take the trust domain's bundle from a Workload API, such as that of the agent this one runs below.

    Raises:
        ServerUnavailableError: it does not answer, or has no such bundle.
    """
    try:
        async with asyncio.timeout(seconds), WorkloadAPIClient(address) as client:
            bundle = (await client.fetch_x509_bundles()).get(trust_domain)
    except TimeoutError as error:
        raise ServerUnavailableError(f"the Workload API {address} takes more than {seconds:g} s") from error
    except (SpiffeError, OSError) as error:
        raise ServerUnavailableError(
            f"unable to fetch trust bundle from SPIFFE Workload API {address}: {error}"
        ) from error
    if bundle is None or not len(bundle):
        raise ServerUnavailableError(
            f"SPIFFE Workload API {address} did not provide a trust bundle for trust domain {trust_domain.name!r}"
        )
    return bundle
