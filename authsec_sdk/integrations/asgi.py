"""The caller's SPIFFE ID in ASGI applications, and middleware that authorizes by route (no extra needed).

A server integration such as :mod:`authsec_sdk.integrations.uvicorn` puts the peer into the scope of each request and
websocket, as it was verified in the handshake, never from a header::

    scope["extensions"]["spiffe"] = {"peer": SpiffeID | None}
    scope["extensions"]["tls"] = {"client_cert_chain": [...], "tls_version": ..., ...}

:func:`peer_spiffe_id` reads it in a handler; :class:`RouteAuthorizationMiddleware` decides before the handler runs.
Behind a proxy, :class:`TrustedFrontMiddleware` adds ``"forwarded": ForwardedPeer | None``, for
:func:`forwarded_peer`.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from authsec_sdk.errors import CallerError, NoIdentityError, SpiffeError
from authsec_sdk.integrations._routes import PROBLEM, PROBLEM_TYPE, Route, authorize_request, require_routes
from authsec_sdk.integrations.trusted_front import ForwardedPeer, TrustedFronts, without_forwarded
from authsec_sdk.spiffe import SpiffeID

__all__ = [
    "OnRefused",
    "Route",
    "RouteAuthorizationMiddleware",
    "TrustedFrontMiddleware",
    "forwarded_peer",
    "peer_spiffe_id",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
OnRefused: TypeAlias = Callable[[SpiffeID | None, str, SpiffeError], None]
"""Called with the peer of the connection, the path and the reason of each refusal."""

logger = logging.getLogger(__name__)


def peer_spiffe_id(scope: Scope) -> SpiffeID:
    """Return the caller's SPIFFE ID from an ASGI scope: the peer of the connection, as the handshake verified it.

    Raises:
        NoIdentityError: when the caller presented no certificate.
        CallerError: when nothing put a peer into the scope: the server is not one of our integrations.

    """
    peer = _peer(scope)
    if peer is None:
        raise NoIdentityError("the caller presented no certificate; ask for one with client_certificate='require'")
    return peer


def forwarded_peer(scope: Scope) -> ForwardedPeer:
    """Return the client that the peer of the connection, a trusted front, speaks for.

    Raises:
        NoIdentityError: the peer is no trusted front, or its client presented no certificate.
        CallerError: no :class:`TrustedFrontMiddleware` is in front of this application.

    """
    extension = (scope.get("extensions") or {}).get("spiffe") or {}
    if "forwarded" not in extension:
        raise CallerError("nothing is read from trusted fronts here: wrap the application in TrustedFrontMiddleware")
    forwarded = extension["forwarded"]
    if not isinstance(forwarded, ForwardedPeer):
        raise NoIdentityError("no trusted front speaks for a client here")
    return forwarded


def _peer(scope: Scope) -> SpiffeID | None:
    extension = (scope.get("extensions") or {}).get("spiffe")
    if extension is None:
        raise CallerError(
            "this scope carries no SPIFFE peer: serve the application through authsec_sdk.integrations.uvicorn, or "
            "another server integration, so that the handshake's identity reaches it"
        )
    peer = extension["peer"]
    return peer if isinstance(peer, SpiffeID) else None


class RouteAuthorizationMiddleware:
    """Ask the routes before the application: each route that matches must accept, and one must match.

    The order of routes does not matter, and adding one never allows more than before to a caller it does not name. A
    refusal is answered with 403 and a problem document (RFC 9457) that tells the caller nothing but that; the ID seen
    and what was wanted go to this module's logger at WARNING and to ``on_refused``. A path that can be read in two ways
    (empty, ``.`` or ``..`` segments, a backslash) is refused, since the application might read it the other way.
    Websockets are refused before they are accepted. Lifespan passes through.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[Route], *, on_refused: OnRefused | None = None) -> None:
        self._app = app
        self._routes = require_routes(routes)
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        peer: SpiffeID | None = None
        try:
            peer = peer_spiffe_id(scope)
            forwarded = scope["extensions"]["spiffe"].get("forwarded")
            method = scope.get("method")
            authorize_request(self._routes, peer, forwarded, scope["path"], None if method is None else str(method))
        except SpiffeError as refusal:
            _tell(self._on_refused, peer, scope["path"], refusal)
            await _refuse(scope, receive, send)
            return
        await self._app(scope, receive, send)


class TrustedFrontMiddleware:
    """Read from named fronts which client they speak for, and keep the header from the application in every case.

    The peer of the connection stays the peer (:func:`peer_spiffe_id`); the client is another value
    (:func:`forwarded_peer`, ``Route(…, forwarded=…)``). Put it outside of all that authorizes. A front that says
    something which cannot be believed is answered with 403, a server that does not tell its peer too.
    """

    def __init__(self, app: ASGIApp, fronts: TrustedFronts, *, on_refused: OnRefused | None = None) -> None:
        self._app = app
        self._fronts = fronts
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        peer: SpiffeID | None = None
        try:
            peer = _peer(scope)
            forwarded = self._fronts.read(peer, scope["headers"])
        except SpiffeError as refusal:
            _tell(self._on_refused, peer, scope["path"], refusal)
            await _refuse(scope, receive, send)
            return
        spiffe = {**scope["extensions"]["spiffe"], "forwarded": forwarded}
        told = {**scope, "headers": without_forwarded(scope["headers"])}
        told["extensions"] = {**scope["extensions"], "spiffe": spiffe}
        await self._app(told, receive, send)


def _tell(hook: OnRefused | None, peer: SpiffeID | None, path: str, refusal: SpiffeError) -> None:
    logger.warning("Request refused: %s peer=%s path=%r", refusal, peer, path)
    if hook is not None:
        hook(peer, path, refusal)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", str(len(PROBLEM)).encode())]
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes before any answer
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": 403, "headers": headers})
    await send({"type": f"{kind}.body", "body": PROBLEM})
