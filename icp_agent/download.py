"""Fetches the first trust bundle from an https URL; apart from `bootstrap`, as few agents need it and its weight."""

import http.client
import ssl
import time
from typing import Final
from urllib.parse import urljoin, urlsplit

from icp_agent.ports import ServerUnavailableError

_DOWNLOAD_SECONDS: Final = 30.0
_READ_SECONDS: Final = 10.0
_REDIRECTS: Final = 5


def download(url: str, *, maximum: int, context: ssl.SSLContext | None = None) -> bytes:
    """Fetch what an `https` URL serves, verified by the system's trust store (`SSL_CERT_FILE` is honoured).

    Bounded: `maximum` bytes, 30 s in all, five redirects, none of them away from https.

    Raises:
        ServerUnavailableError: no answer, no 200, too slow, too large, or redirected elsewhere.
    """
    context = context or ssl.create_default_context()
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    for _ in range(_REDIRECTS + 1):
        body, redirect = _get(url, context, deadline, maximum)
        if redirect is None:
            return body
        url = _joined(url, redirect)
    raise ServerUnavailableError(f"trust bundle URL redirects more than {_REDIRECTS} times")


def _joined(url: str, redirect: str) -> str:
    try:
        joined = urljoin(url, redirect)
        urlsplit(joined)
    except ValueError as error:
        raise ServerUnavailableError(f"trust bundle URL {url!r} redirects to no URL: {error}") from error
    return joined


def _get(url: str, context: ssl.SSLContext, deadline: float, maximum: int) -> tuple[bytes, str | None]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ServerUnavailableError(f"trust bundle URL {url!r} is not https: not fetched")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=_READ_SECONDS, context=context
        )
    except (http.client.HTTPException, ValueError) as error:
        raise ServerUnavailableError(f"trust bundle URL {url!r} is malformed: {error}") from error
    try:
        connection.request("GET", target, headers={"Accept": "*/*", "User-Agent": "icp-agent"})
        response = connection.getresponse()
        location = response.getheader("Location")
        if response.status in (301, 302, 303, 307, 308) and location:
            return b"", location
        if response.status != http.client.OK:
            raise ServerUnavailableError(f"trust bundle URL {url!r} answers {response.status} {response.reason}")
        return _body(response, url, deadline, maximum), None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerUnavailableError(f"unable to fetch trust bundle URL {url!r}: {error}") from error
    finally:
        connection.close()


def _body(response: http.client.HTTPResponse, url: str, deadline: float, maximum: int) -> bytes:
    body = bytearray()
    while chunk := response.read1(65536):
        body += chunk
        if len(body) > maximum:
            raise ServerUnavailableError(f"trust bundle URL {url!r} serves more than {maximum} bytes")
        if time.monotonic() > deadline:
            raise ServerUnavailableError(f"trust bundle URL {url!r} takes more than {_DOWNLOAD_SECONDS:.0f} s")
    if response.length:
        raise ServerUnavailableError(f"unable to fetch trust bundle URL {url!r}: it ends before its announced end")
    return bytes(body)
