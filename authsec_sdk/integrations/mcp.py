"""MCP over mutual TLS (extra ``mcp``): clients and servers of the streamable HTTP transport.

A client gives ``mcp`` an HTTP client whose every connection is mutual TLS::

    async with mtls_http_client(source, authorize_id(TOOLS)) as http:
        async with streamable_http_client("https://tools.internal/mcp", http_client=http) as (read, write):
            ...

A server is an ASGI application: serve ``server.streamable_http_app()``, wrapped in :class:`CallerBoundSessions`, with
one of our server integrations. A tool learns who calls from :func:`peer_spiffe_id` and decides with
:func:`authorize_caller`.

What is not checked: DNS names; the server is known by its SPIFFE ID alone. OAuth is another matter: the SPIFFE ID says
which workload calls, a bearer token may say for whom.
"""

import logging
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx2
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from authsec_sdk.authz import Authorizer, authorize
from authsec_sdk.errors import CallerError, NoIdentityError, PeerNotAuthorizedError
from authsec_sdk.integrations import asgi
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

__all__ = [
    "CallerBoundSessions",
    "InsecureURLError",
    "MTLSTransport",
    "authorize_caller",
    "mtls_http_client",
    "peer_spiffe_id",
]

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_SESSION = b"mcp-session-id"
_FOREIGN = ("app", "cert", "mounts", "proxy", "transport", "trust_env", "verify")
_OF_TRANSPORT = ("http1", "http2", "limits", "local_address", "retries", "socket_options", "uds")
# A server may hold a response open while a tool works; as long as `mcp` waits by itself.
_TIMEOUT = httpx2.Timeout(30.0, read=300.0)


class InsecureURLError(CallerError, httpx2.UnsupportedProtocol):
    """A request, or a redirect, left https: nothing was sent, because no identity would have been checked."""


class MTLSTransport(httpx2.AsyncHTTPTransport):
    """A transport for ``httpx2.AsyncClient`` whose connections are all mutual TLS; it refuses every other scheme."""

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        _refuse(options)
        alpn = ("http/1.1", "h2") if options.get("http2") else ("http/1.1",)
        super().__init__(verify=context.view(alpn=alpn), trust_env=False, **options)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over https, or raise :class:`InsecureURLError` before anything leaves."""
        if request.url.scheme != "https":
            raise InsecureURLError(
                f"refused to send to {request.url.scheme}://{request.url.host}: this client speaks mutual TLS only; "
                "use an https URL, and if a redirect led here, correct it at the server that sent it"
            )
        response = await super().handle_async_request(request)
        stream = response.extensions.get("network_stream")
        response.extensions["spiffe_peer"] = None if stream is None else _peer_of(stream.get_extra_info("ssl_object"))
        return response


def mtls_http_client(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> httpx2.AsyncClient:
    """Return the ``http_client`` for ``mcp.client.streamable_http.streamable_http_client``, on asyncio and trio.

    ``options`` are those of ``httpx2.AsyncClient`` (``headers``, ``auth``, ``timeout``, ``http2``, …). It waits as long
    as ``mcp``'s own client does: 30 seconds to connect, 300 for an answer. Close it after the transport.

    Raises:
        InsecureURLError: from a request, when its URL or a redirect is not https.
        httpx2.ConnectError: from a request, when the server is refused; the ``PeerVerificationError`` with the ID seen
            and what was wanted is in its ``__cause__`` chain.
        CallerError: at once, for an option that would go round the policy.

    """
    _refuse(options)
    of_transport = {name: options.pop(name) for name in _OF_TRANSPORT if name in options}
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    options.setdefault("timeout", _TIMEOUT)
    return httpx2.AsyncClient(transport=MTLSTransport(context, **of_transport), trust_env=False, **options)


def peer_spiffe_id(of: "Context[Any, Any] | httpx2.Response") -> SpiffeID:
    """Return who is at the other end: in a tool, of its ``Context`` the caller; of a response, the server.

    Raises:
        NoIdentityError: the caller presented no certificate.
        CallerError: the request came by no connection of ours: another server, another transport (stdio), or a client
            that :func:`mtls_http_client` did not make.

    """
    if isinstance(of, httpx2.Response):
        peer = of.extensions.get("spiffe_peer")
        if not isinstance(peer, SpiffeID):
            raise CallerError("this response carries no verified SPIFFE ID: its client is not of mtls_http_client()")
        return peer
    request = of.request_context.request
    if request is None:
        raise CallerError("this call did not come over HTTP, so no handshake tells who calls")
    return asgi.peer_spiffe_id(request.scope)


def authorize_caller(context: "Context[Any, Any]", authorizer: Authorizer) -> SpiffeID:
    """Return the caller of a tool, or refuse it: the log says who and why, the caller only that it may not.

    Raises:
        ToolError: the caller is not authorized, or has no identity; ``mcp`` answers with its text.

    """
    try:
        peer = peer_spiffe_id(context)
        authorize(authorizer, peer)
    except (NoIdentityError, PeerNotAuthorizedError) as error:
        logger.warning("Call of an MCP tool refused: %s", error)
        raise ToolError("not authorized") from None
    return peer


class CallerBoundSessions:
    """ASGI middleware that binds an MCP session to the workload that opened it: a session ID alone opens nothing.

    A request with the session ID of somebody else, or with one that was not seen to be given out, is answered 404, as
    for a session that ended; a well-behaved client then begins a new one. At most ``max_sessions`` are remembered, and
    the one unused for longest goes first.
    """

    def __init__(self, app: Any, *, max_sessions: int = 10_000) -> None:
        self._app = app
        self._max_sessions = max_sessions
        self._owners: OrderedDict[bytes, SpiffeID] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if its session, where it names one, is its caller's."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = asgi.peer_spiffe_id(scope)
        named = [value for name, value in scope["headers"] if name.lower() == _SESSION]
        if named and (len(named) > 1 or self._owners.get(named[0]) != caller):
            logger.warning("Request of an MCP session refused: it is not the caller's peer=%s", caller)
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        if named:
            self._owners.move_to_end(named[0])

        async def remember(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in message.get("headers", ()):
                    if name.lower() == _SESSION:
                        self._remember(bytes(value), caller)
            await send(message)

        await self._app(scope, receive, remember)

    def _remember(self, session: bytes, caller: SpiffeID) -> None:
        self._owners.setdefault(session, caller)
        self._owners.move_to_end(session)
        while len(self._owners) > self._max_sessions:
            self._owners.popitem(last=False)


def _refuse(options: dict[str, Any]) -> None:
    if foreign := sorted(set(options) & set(_FOREIGN)):
        raise CallerError(
            f"{', '.join(foreign)}: not taken here, because connections made so would go round the SPIFFE policy"
        )
