"""OAuth access tokens for httpx requests, got for a JWT-SVID instead of a client secret (extra ``httpx``).

The workload shows its JWT-SVID to an authorization server as a client assertion (RFC 7521 section 4.2, RFC 7523,
draft-ietf-oauth-spiffe-client-auth-02), by the grant ``client_credentials``, and sends the token that it gets::

    auth = ClientCredentialsAuth(source, client, "https://as.example/token", issuer="https://as.example")
    httpx.Client(auth=auth)
"""

import json
import re
import threading
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import Final

import anyio
import httpx

from authsec_sdk.errors import CallerError, OperatorError, UnavailableError
from authsec_sdk.integrations.httpx import InsecureURLError
from authsec_sdk.integrations.jwt_httpx import TokenSource
from authsec_sdk.spiffe import JWTSVID, SpiffeID

__all__ = ["JWT_BEARER_ASSERTION", "SPIFFE_ASSERTION", "ClientCredentialsAuth", "TokenEndpointError"]

SPIFFE_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
"""A JWT-SVID, which names no issuer: draft-ietf-oauth-spiffe-client-auth."""
JWT_BEARER_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523, for authorization servers that take a JWT-SVID as such a token."""

MAX_BODY: Final = 64 * 1024
_MARGIN: Final = 30.0  # seconds before its end at which a token is not sent any more
_LONGEST: Final = 24 * 3600.0
_CODE: Final = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,64}")  # RFC 6749 section 5.2
_NO_AUTH: Final = httpx.Auth()  # whatever the client has by default
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 section 2.1


class TokenEndpointError(OperatorError):
    """The authorization server gave no token; ``error`` is its word for it (RFC 6749 section 5.2), if it said one."""

    def __init__(self, text: str, error: str | None = None) -> None:
        super().__init__(text)
        self.error = error


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    until: float  # on the monotonic clock

    def good(self, now: float) -> bool:
        return now < self.until


class ClientCredentialsAuth(httpx.Auth):
    """Sends ``Authorization: Bearer`` with an access token, over https alone; renews it before it ends.

    ``client`` reaches the authorization server, without following redirects: an ``httpx.Client`` where this is used in
    threads, an ``httpx.AsyncClient`` of the same event loop otherwise. The JWT-SVID has the ``issuer`` as its sole
    audience, so it is worth nothing elsewhere. One request at a time asks for a token; the others wait for it. A token
    without ``expires_in`` is used once. A 401 from the service makes the next request ask for another one.

    What is not checked: who the service is, and what the token says. Tokens for one service are not to be sent to
    another: give each service a client, and a ``resource`` (RFC 8707) or ``scope``, of its own.

    Raises:
        CallerError: ``issuer`` is empty, or the client is of the wrong kind for the request.
        InsecureURLError: a URL is not https; nothing was sent there.
        TokenEndpointError: from a request: the authorization server refused, or answered what is no token.
        UnavailableError: from a request: it cannot be reached, or asks to be called later.
        NoIdentityError, NotReadyError: from a request, when there is no JWT-SVID.

    """

    requires_response_body = False

    def __init__(
        self,
        source: TokenSource,
        client: httpx.Client | httpx.AsyncClient,
        token_endpoint: str,
        *,
        issuer: str,
        scope: str | None = None,
        resource: str | None = None,
        client_id: str | None = None,
        assertion_type: str = SPIFFE_ASSERTION,
        subject: SpiffeID | str | None = None,
    ) -> None:
        if not isinstance(issuer, str) or not issuer:
            raise CallerError(f"issuer={issuer!r}: give the name that the authorization server goes by")
        _require_https(httpx.URL(token_endpoint))
        self._source = source
        self._client = client
        self._endpoint = token_endpoint
        self._audience = (issuer,)
        self._subject = subject
        parameters = {
            "grant_type": "client_credentials",
            "client_assertion_type": assertion_type,
            "client_id": client_id,
            "scope": scope,
            "resource": resource,
        }
        self._parameters = {name: value for name, value in parameters.items() if value is not None}
        self._token: _Token | None = None
        self._threads = threading.Lock()
        self._tasks = anyio.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header, in a thread."""
        _require_https(request.url)
        if not isinstance(self._client, httpx.Client):
            raise CallerError("the client for the token endpoint is for event loops: give an httpx.Client")
        with self._threads:
            token = self._kept()
            if token is None:
                svid = self._source.wait_svid(self._audience, subject=self._subject)
                try:
                    answer = self._client.post(
                        self._endpoint, data=self._form(svid), auth=_NO_AUTH, follow_redirects=False
                    )
                except httpx.TransportError as error:
                    raise self._unreachable(error) from error
                token = self._keep(answer)
        self._judge((yield _bearing(request, token)), token)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the header, on an event loop."""
        _require_https(request.url)
        if not isinstance(self._client, httpx.AsyncClient):
            raise CallerError("the client for the token endpoint is for threads: give an httpx.AsyncClient")
        async with self._tasks:
            token = self._kept()
            if token is None:
                svid = await self._source.fetch_svid(self._audience, subject=self._subject)
                try:
                    answer = await self._client.post(
                        self._endpoint, data=self._form(svid), auth=_NO_AUTH, follow_redirects=False
                    )
                except httpx.TransportError as error:
                    raise self._unreachable(error) from error
                token = self._keep(answer)
        self._judge((yield _bearing(request, token)), token)

    def _form(self, svid: JWTSVID) -> dict[str, str]:
        return {**self._parameters, "client_assertion": svid.token}

    def _kept(self) -> _Token | None:
        token = self._token
        return token if token is not None and token.good(time.monotonic()) else None

    def _keep(self, answer: httpx.Response) -> _Token:
        self._token = read_token(answer.status_code, answer.content, time.monotonic())
        return self._token

    def _judge(self, response: httpx.Response, sent: _Token) -> None:
        if response.status_code == 401 and self._token is sent:
            self._token = None

    def _unreachable(self, error: httpx.TransportError) -> UnavailableError:
        return UnavailableError(f"{self._endpoint} cannot be reached: {str(error) or type(error).__name__}")


def read_token(status: int, body: bytes, now: float) -> _Token:
    """Read the answer of a token endpoint (RFC 6749 sections 5.1, 5.2); its text is never quoted, but for its own code.

    Raises:
        TokenEndpointError: it is a refusal, or no token of type Bearer.
        UnavailableError: the status says that a later request may be answered.
    """
    if status == 429 or status >= 500:
        raise UnavailableError(f"the token endpoint answers {status}")
    members = _members(body)
    if status != 200:
        code = members.get("error")
        word = code if isinstance(code, str) and _CODE.fullmatch(code) else None
        raise TokenEndpointError(
            f"the token endpoint refuses with status {status} and {word or 'no word of its own'}: is this workload "
            "registered there, and the issuer its name?",
            word,
        )
    value, kind, seconds = members.get("access_token"), members.get("token_type"), members.get("expires_in", 0)
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise TokenEndpointError("the token endpoint's answer holds no access_token that a header can carry")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenEndpointError("the token endpoint's answer is a token of another type than Bearer")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
        raise TokenEndpointError("the token endpoint's answer has an expires_in that is no number of seconds")
    life = min(float(seconds), _LONGEST)
    return _Token(value, now + life - min(_MARGIN, life / 2))


def _members(body: bytes) -> dict[str, object]:
    try:
        members = json.loads(body) if len(body) <= MAX_BODY else None
    except (ValueError, RecursionError):
        members = None
    return members if isinstance(members, dict) else {}


def _bearing(request: httpx.Request, token: _Token) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token.value}"
    return request


def _require_https(url: httpx.URL) -> None:
    if url.scheme != "https":
        raise InsecureURLError(f"refused to send a token to {url.scheme}://{url.host}: use an https URL")
