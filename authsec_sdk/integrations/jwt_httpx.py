"""JWT-SVIDs as the credential of httpx requests (extra ``httpx``): for paths where TLS ends before the service does.

``httpx.AsyncClient(auth=JWTSVIDAuth(source, "payments"))`` sends a fresh token of this workload with every request, to
one audience, on asyncio, trio and in threads. Between two processes that reach each other, mutual TLS says more.
"""

from collections.abc import AsyncGenerator, Generator
from typing import Protocol

import httpx

from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.httpx import InsecureURLError
from authsec_sdk.spiffe import JWTSVID, Audience, SpiffeID

__all__ = ["JWTSVIDAuth", "TokenSource"]


class TokenSource(Protocol):
    """Where tokens come from: a :class:`~authsec_sdk.workloadapi.JWTSource`, or one for tests."""

    async def fetch_svid(self, audience: Audience, *, subject: SpiffeID | str | None = None) -> JWTSVID:
        """Return a JWT-SVID for all names of an audience."""

    def wait_svid(self, audience: Audience, *, subject: SpiffeID | str | None = None) -> JWTSVID:
        """Return the same, in a thread."""


class JWTSVIDAuth(httpx.Auth):
    """Sends ``Authorization: Bearer`` with a JWT-SVID for one audience, over https alone (RFC 6750 section 5.3).

    ``audience`` is the one name the service goes by: whoever of several gets a token can use it with the others. The
    source caches and renews; a request never carries a token that is about to expire. httpx takes the header away when
    a redirect leads to another origin. Give ``subject`` where this process has several identities.

    What is not checked: who the server is. That is for the client's TLS: a service with a SPIFFE ID behind
    :func:`~authsec_sdk.integrations.httpx.mtls_client`, a gateway with a web certificate behind httpx's own.

    Raises:
        CallerError: the audience is no name, or several.
        InsecureURLError: from a request, when its URL is not https: nothing was sent.
        NoIdentityError, UnavailableError, NotReadyError: from a request, when there is no token.

    """

    def __init__(self, source: TokenSource, audience: str, *, subject: SpiffeID | str | None = None) -> None:
        if not isinstance(audience, str) or not audience:
            raise CallerError(f"audience={audience!r}: give the one name that the service goes by")
        self._source = source
        self._audience = (audience,)
        self._subject = subject

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header, in a thread."""
        _require_https(request)
        _bear(request, self._source.wait_svid(self._audience, subject=self._subject))
        yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the header, on an event loop."""
        _require_https(request)
        _bear(request, await self._source.fetch_svid(self._audience, subject=self._subject))
        yield request


def _bear(request: httpx.Request, svid: JWTSVID) -> None:
    request.headers["Authorization"] = f"Bearer {svid.token}"


def _require_https(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise InsecureURLError(
            f"refused to send a token to {request.url.scheme}://{request.url.host}: whoever reads it can use it; "
            "use an https URL"
        )
