"""Fetches the first trust bundle from an https URL; apart from `bootstrap`, as few agents need it and its weight."""

import ssl
from typing import Final

from authsec_sdk.errors import SpiffeError
from authsec_sdk.federation.https import https_get
from icp_agent.ports import ServerUnavailableError

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
