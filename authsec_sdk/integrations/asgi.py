"""The caller's SPIFFE ID in ASGI applications, and middleware that authorizes by route (no extra needed).

A server integration such as :mod:`authsec_sdk.integrations.uvicorn` puts the peer into the scope of each request and
websocket, as it was verified in the handshake, never from a header::

    scope["extensions"]["spiffe"] = {"peer": SpiffeID | None}
    scope["extensions"]["tls"] = {"client_cert_chain": [...], "tls_version": ..., ...}

:func:`peer_spiffe_id` reads it in a handler; :class:`RouteAuthorizationMiddleware` (routes in code) and
:class:`PolicyMiddleware` (a policy, mostly from a file) decide before the handler runs.
Behind a proxy, :class:`TrustedFrontMiddleware` adds ``"forwarded": ForwardedPeer | None``, for
:func:`forwarded_peer`.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from authsec_sdk import authz
from authsec_sdk.authz import Request, RequestAuthorizer, require_request_authorizer
from authsec_sdk.errors import CallerError, NoIdentityError, SpiffeError
from authsec_sdk.integrations._routes import PROBLEM, PROBLEM_TYPE, Route, authorize_request, require_routes
from authsec_sdk.integrations.trusted_front import ForwardedPeer, TrustedFronts, without_forwarded
from authsec_sdk.spiffe import SpiffeID

__all__ = [
    "OnRefused",
    "PolicyMiddleware",
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


def request_of(scope: Scope) -> Request:
    """Return what routes and policies are asked about; a websocket is the GET that opens it.

    Its path is the one that the application's routes are matched against: without the `root_path` the application as a
    whole is served under, where the path begins with that. Starlette and FastAPI route `/api/admin` as `/admin` then,
    and `/admin` too, so one rule must be about both. What Starlette mounts below it stays in the path.
    """
    raw, path = scope.get("raw_path"), str(scope["path"])
    root = str(scope.get("app_root_path", scope.get("root_path", "")))
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :] or "/"
    return Request.http(
        str(scope.get("method", "GET")), path, raw.decode("latin-1") if isinstance(raw, bytes) else None
    )


class RouteAuthorizationMiddleware:
    """Ask the routes before the application: each route that matches must accept, and one must match.

    The order of routes does not matter, and adding one never allows more than before to a caller it does not name. A
    refusal is answered with 403 and a problem document (RFC 9457) that tells the caller nothing but that; the ID seen
    and what was wanted go to this module's logger at WARNING and to ``on_refused``. What can be read in two ways is
    refused as by policies (empty, ``.`` or ``..`` segments, an encoded slash, a method in small letters, …), since the
    application might read it the other way.
    Websockets are refused before they are accepted. Lifespan passes through.

    Raises:
        CallerError: there are no routes, or the application goes by a prefix that is not known here:
            `FastAPI(root_path=…)`.

    """

    def __init__(self, app: ASGIApp, routes: Iterable[Route], *, on_refused: OnRefused | None = None) -> None:
        self._app = _one_prefix(app)
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
            websocket = scope["type"] == "websocket"
            authorize_request(self._routes, peer, forwarded, request_of(scope), websocket=websocket)
        except SpiffeError as refusal:
            _tell(self._on_refused, peer, scope["path"], refusal)
            await _refuse(scope, receive, send)
            return
        await self._app(scope, receive, send)


class PolicyMiddleware:
    """Ask a policy before the application, for each request and each websocket, and again whenever it has changed.

    ``policy`` is a :class:`~authsec_sdk.policyfile.PolicyFile`, a :class:`~authsec_sdk.authz.Policy`, or what else
    decides on requests. The newest policy also judges each further message of a request or websocket that lives on:
    refused, nothing more passes in either direction, and a websocket is closed with 1008. A websocket is judged as the
    GET that opens it. Refusals are answered and told as :class:`RouteAuthorizationMiddleware` does.

    Raises:
        CallerError: the application goes by a prefix that is not known here: `FastAPI(root_path=…)`.
        InvalidAuthorizerError: ``policy`` is none.

    """

    def __init__(self, app: ASGIApp, policy: RequestAuthorizer, *, on_refused: OnRefused | None = None) -> None:
        self._app = _one_prefix(app)
        self._policy = require_request_authorizer(policy)
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        peer: SpiffeID | None = None
        try:
            peer = peer_spiffe_id(scope)
            generation = self._policy.generation  # before it is asked: a change meanwhile is then seen
            request = request_of(scope)
            authz.authorize_request(self._policy, peer, request)
        except SpiffeError as refusal:
            _tell(self._on_refused, peer, scope["path"], refusal)
            await _refuse(scope, receive, send)
            return

        def judge_again() -> None:
            nonlocal generation
            newest = self._policy.generation
            if newest == generation:
                return
            try:
                authz.authorize_request(self._policy, peer, request)
            except SpiffeError as refusal:
                _tell(self._on_refused, peer, scope["path"], refusal)
                raise
            generation = newest

        live = _Live(scope, receive, send, judge_again)
        await self._app(scope, live.receive, live.send)


class _Live:
    """The two ends of a request that lives on, as the application has them while its peer is accepted."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, judge_again: Callable[[], None]) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._judge_again = judge_again
        self._started = False
        self._ended = False

    async def receive(self) -> Message:
        message = {} if self._ended else await self._receive()
        if not await self._accepted():
            code = {"code": 1008} if self._scope["type"] == "websocket" else {}
            return {"type": f"{self._scope['type']}.disconnect", **code}
        return message

    async def send(self, message: Message) -> None:
        if not await self._accepted():
            raise OSError("the peer is not authorized any more")  # as ASGI has it for a client that is gone
        self._started = True
        await self._send(message)

    async def _accepted(self) -> bool:
        if self._ended:
            return False
        try:
            self._judge_again()
        except SpiffeError:
            self._ended = True
            if self._scope["type"] == "websocket":
                await self._send({"type": "websocket.close", "code": 1008})
            elif not self._started:
                await _refuse(self._scope, self._receive, self._send)
            return False
        return True


def _one_prefix(app: ASGIApp) -> ASGIApp:
    """Refuse an application that answers under a prefix which only the scopes inside of it tell."""
    prefix = getattr(app, "root_path", None)  # Quart has one too, which is a folder
    if prefix and hasattr(app, "root_path_in_servers"):
        raise CallerError(
            f"FastAPI(root_path={prefix!r}) answers each path with and without that prefix, and rules would be "
            "about the one alone: give root_path to the server, or the middleware to app.add_middleware(…)"
        )
    return app


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
