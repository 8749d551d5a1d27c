"""aiohttp over mutual TLS, client and server (extra ``aiohttp``), on asyncio and uvloop.

``mtls_session`` gives an ordinary ``aiohttp.ClientSession`` whose every connection, websockets included, presents the
newest X509-SVID and is refused, before an application byte is sent, unless the server's SPIFFE ID satisfies the
authorizer. ``mtls_site`` and ``serve`` do the same for ``aiohttp.web``. :func:`peer_spiffe_id` reads the other side's
ID from a response, a websocket or a request.

What is not checked: DNS names. A peer is known by its SPIFFE ID alone, so the host in a URL says where to connect and
not whom to trust. A connection that is already open keeps the identities it was made with; the session drops an idle
one after ``keepalive_timeout`` seconds (15 unless ``connector_options`` says otherwise).
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from aiohttp.connector import Connection
from aiohttp.typedefs import Handler, Middleware

from authsec_sdk.authz import Authorizer, Request, RequestAuthorizer, require_request_authorizer
from authsec_sdk.errors import CallerError, NoIdentityError, SpiffeError
from authsec_sdk.integrations._live_requests import LiveRequests
from authsec_sdk.integrations._routes import PROBLEM, PROBLEM_TYPE
from authsec_sdk.integrations.asgi import OnRefused
from authsec_sdk.integrations.trusted_front import ForwardedPeer, TrustedFronts, without_forwarded
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context, mtls_server_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest

__all__ = [
    "InsecureURLError",
    "MTLSConnector",
    "MTLSResponse",
    "forwarded_peer",
    "mtls_session",
    "mtls_site",
    "peer_spiffe_id",
    "policy_middleware",
    "serve",
    "trusted_front_middleware",
]

# Each of these would make connections of its own, beside the connector that holds the policy, or hide who answered.
_NOT_THE_SESSIONS = ("connector", "proxy", "proxy_auth", "request_class", "response_class", "trust_env")
_NOT_THE_CONNECTORS = ("fingerprint", "ssl", "ssl_context", "verify_ssl")
_NOT_THE_SITES = ("ssl_context",)
_SECURE = ("https", "wss")

# Since 3.14 aiohttp warns of keys that are texts.
_FORWARDED: Any = web.RequestKey("_FORWARDED", object) if hasattr(web, "RequestKey") else "authsec.forwarded"

logger = logging.getLogger(__name__)


class InsecureURLError(CallerError, aiohttp.ClientError):
    """A request, or a redirect, would have gone without mutual TLS: nothing was sent."""


class MTLSResponse(aiohttp.ClientResponse):
    """A response that remembers who answered; its connection may be back in the pool before anybody asks."""

    _spiffe_peer: SpiffeID | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Take the peer from the connection, then read as aiohttp does."""
        transport = connection.transport
        self._spiffe_peer = None if transport is None else _peer_of(transport)
        return await super().start(connection)


class MTLSConnector(aiohttp.TCPConnector):
    """A connector for ``aiohttp.ClientSession`` whose connections are all mutual TLS.

    It refuses other schemes than ``https`` and ``wss``, proxies, and the ``ssl`` argument of a single request. For
    :func:`peer_spiffe_id` the session needs ``response_class=MTLSResponse`` too; :func:`mtls_session` sets both.
    ``options`` are those of ``aiohttp.TCPConnector`` without those about TLS.
    """

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        _refuse(options, _NOT_THE_CONNECTORS)
        super().__init__(ssl=context.view(alpn=()), **options)

    async def connect(self, req: "ClientRequest", traces: Any, timeout: aiohttp.ClientTimeout) -> Connection:
        """Give a pooled or new connection for a request, or raise :class:`InsecureURLError` before anything leaves."""
        if req.url.scheme not in _SECURE:
            raise InsecureURLError(
                f"refused to send to {req.url.scheme}://{req.url.host}: this session speaks mutual TLS only; use an "
                "https URL, and if a redirect led here, correct it at the server that sent it"
            )
        if req.proxy is not None or req.ssl is not True:
            raise InsecureURLError(
                f"refused to send to {req.url.host}: proxy= and ssl= of a request would go round the SPIFFE policy; "
                "leave them out"
            )
        return await super().connect(req, traces, timeout)


def mtls_session(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    connector_options: Mapping[str, Any] | None = None,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> aiohttp.ClientSession:
    """Return an ``aiohttp.ClientSession`` that presents this workload's SVID to servers the authorizer accepts only.

    Call it where a loop runs, as aiohttp wants it. ``options`` go to ``aiohttp.ClientSession`` (``base_url``,
    ``headers``, ``timeout``, …) and ``connector_options`` to ``aiohttp.TCPConnector`` (``limit``,
    ``keepalive_timeout``, …). Proxies are refused and proxy variables of the environment are not read.

    Raises:
        InsecureURLError: from a request, when its URL or a redirect is neither https nor wss, or it asks for a proxy or
            for TLS of its own.
        aiohttp.ClientConnectorCertificateError: from a request, when the server is refused; the
            ``PeerVerificationError`` with the ID seen and what was wanted is its ``certificate_error``.
        CallerError: at once, for an option that would go round the policy.

    """
    _refuse(options, _NOT_THE_SESSIONS)
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    connector = MTLSConnector(context, **(connector_options or {}))
    return aiohttp.ClientSession(connector=connector, response_class=MTLSResponse, **options)


def mtls_site(
    runner: web.BaseRunner,
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str | None = None,
    port: int | None = None,
    *,
    sock: socket.socket | None = None,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> web.BaseSite:
    """Return a site of ``aiohttp.web`` that serves a runner's application over mutual TLS; ``await site.start()``.

    Callers that the authorizer does not accept are refused in the handshake and never reach the application. ``sock``
    is a bound socket to listen on instead of ``host`` and ``port``; make it with ``socket.IPPROTO_TCP``, or asyncio
    leaves Nagle's algorithm on. ``options`` are those of ``web.TCPSite`` (``backlog``, ``reuse_port``, …).

    Raises:
        CallerError: for an option that says which certificates to use.

    """
    _refuse(options, _NOT_THE_SITES)
    context = mtls_server_context(
        source, authorizer, minimum_version=minimum_version, alpn=("http/1.1",), on_rejected=on_rejected
    )
    if sock is not None:
        return web.SockSite(runner, sock, ssl_context=context, **options)
    return web.TCPSite(runner, host, port, ssl_context=context, **options)


async def serve(
    app: web.Application,
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str | None = None,
    port: int | None = None,
    **options: Any,
) -> None:
    """Serve an application over mutual TLS until cancelled, then shut down gracefully.

    ``options`` are those of :func:`mtls_site`. Signals are the caller's: ``asyncio.run`` cancels on SIGINT.

    Raises:
        CallerError: as :func:`mtls_site` says.

    """
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await mtls_site(runner, source, authorizer, host, port, **options).start()
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()


def policy_middleware(
    policy: RequestAuthorizer,
) -> Middleware:
    """Return middleware for ``web.Application(middlewares=[…])`` that asks a policy before each handler.

    ``policy`` is a ``PolicyFile`` or a ``Policy``; the newest decides. Refusals are answered with 403 and a problem
    document that tells nothing; the reason goes to this module's logger. Give it first, so that nothing runs before it.
    A websocket is judged as the GET that opens it. What is under way is judged again by each new policy of a
    ``PolicyFile``, and the connections of those it refuses are cut.

    Raises:
        InvalidAuthorizerError: ``policy`` is none.

    """
    live = LiveRequests(require_request_authorizer(policy))

    @web.middleware
    async def judge(request: web.Request, handler: Handler) -> web.StreamResponse:
        with contextlib.ExitStack() as under_way:
            try:
                peer = peer_spiffe_id(request)
                asked = Request.http(request.method, request.path, request.raw_path)
                under_way.enter_context(live.judged(request, peer, asked))
            except SpiffeError as refusal:
                logger.warning("Request refused: %s path=%r", refusal, request.path)
                return web.Response(status=403, body=PROBLEM, content_type=PROBLEM_TYPE)
            return await handler(request)

    return judge


def peer_spiffe_id(
    exchange: aiohttp.ClientResponse | aiohttp.ClientWebSocketResponse | web.BaseRequest,
) -> SpiffeID:
    """Return the SPIFFE ID of the other side, as the handshake verified it.

    Of a response it may be asked at any time; of a websocket and of a request only while the connection is open.

    Raises:
        NoIdentityError: the connection of a request or websocket is closed, or was not mutual TLS.
        CallerError: the response did not come over a session made by :func:`mtls_session`.

    """
    if isinstance(exchange, aiohttp.ClientResponse):
        peer = exchange._spiffe_peer if isinstance(exchange, MTLSResponse) else None
        if peer is None:
            raise CallerError(
                "this response carries no verified SPIFFE ID: it did not come over a session made by mtls_session()"
            )
        return peer
    ssl_object = exchange.get_extra_info("ssl_object")
    peer = None if ssl_object is None else _peer_of(ssl_object)
    if peer is None:
        raise NoIdentityError(
            "no verified SPIFFE ID: the connection is closed already, or it was not made by mtls_session() or "
            "mtls_site()"
        )
    return peer


def trusted_front_middleware(fronts: TrustedFronts, *, on_refused: OnRefused | None = None) -> Middleware:
    """Return a middleware of ``aiohttp.web`` that reads from named fronts which client they speak for.

    Make it the first one: ``web.Application(middlewares=[trusted_front_middleware(fronts), …])``. The peer of the
    connection stays the peer (:func:`peer_spiffe_id`); the client is another value (:func:`forwarded_peer`). The header
    never reaches a handler. A front that says what cannot be believed is answered with 403, a connection whose peer is
    not known too; the reason goes to this module's logger at WARNING and to ``on_refused``.
    """

    @web.middleware
    async def read(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer: SpiffeID | None = None
        try:
            peer = peer_spiffe_id(request)
            forwarded = fronts.read(peer, request.raw_headers)
        except SpiffeError as refusal:
            logger.warning("Request refused: %s peer=%s path=%r", refusal, peer, request.path)
            if on_refused is not None:
                on_refused(peer, request.path, refusal)
            return web.Response(status=403, body=PROBLEM, content_type=PROBLEM_TYPE)
        told = request.clone(headers=without_forwarded(request.headers.items()))
        told[_FORWARDED] = forwarded
        return await handler(told)

    return read


def forwarded_peer(request: web.BaseRequest) -> ForwardedPeer:
    """Return the client that the peer of the connection, a trusted front, speaks for.

    Raises:
        NoIdentityError: the peer is no trusted front, or its client presented no certificate.
        CallerError: no :func:`trusted_front_middleware` is in front of this handler.

    """
    if _FORWARDED not in request:
        raise CallerError(
            "nothing is read from trusted fronts here: add trusted_front_middleware(…) to the application"
        )
    forwarded = request[_FORWARDED]
    if not isinstance(forwarded, ForwardedPeer):
        raise NoIdentityError("no trusted front speaks for a client here")
    return forwarded


def _refuse(options: Mapping[str, Any], foreign: tuple[str, ...]) -> None:
    if wrong := sorted(set(options) & set(foreign)):
        raise CallerError(
            f"{', '.join(wrong)}: not taken here; certificates, keys and trust come from the source, and connections "
            "made otherwise would go round the SPIFFE policy"
        )
