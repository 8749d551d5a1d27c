"""The caller's SPIFFE ID in ASGI applications, and middleware that authorizes by route (no extra needed).

A server integration such as :mod:`authsec_sdk.integrations.uvicorn` puts the peer into the scope of each request and
websocket, as it was verified in the handshake, never from a header::

    scope["extensions"]["spiffe"] = {"peer": SpiffeID | None}
    scope["extensions"]["tls"] = {"client_cert_chain": [...], "tls_version": ..., ...}

:func:`peer_spiffe_id` reads it in a handler; :class:`RouteAuthorizationMiddleware` decides before the handler runs.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from authsec_sdk.authz import Authorizer, authorize, require_authorizer
from authsec_sdk.errors import CallerError, NoIdentityError, PeerNotAuthorizedError, SpiffeError
from authsec_sdk.spiffe import SpiffeID

__all__ = ["Route", "RouteAuthorizationMiddleware", "peer_spiffe_id"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)


def peer_spiffe_id(scope: Scope) -> SpiffeID:
    """Return the caller's SPIFFE ID from an ASGI scope.

    Raises:
        NoIdentityError: when the caller presented no certificate.
        CallerError: when nothing put a peer into the scope: the server is not one of our integrations.

    """
    extension = scope.get("extensions", {}).get("spiffe")
    if extension is None:
        raise CallerError(
            "this scope carries no SPIFFE peer: serve the application through authsec_sdk.integrations.uvicorn, or "
            "another server integration, so that the handshake's identity reaches it"
        )
    peer = extension["peer"]
    if not isinstance(peer, SpiffeID):
        raise NoIdentityError("the caller presented no certificate; ask for one with client_certificate='require'")
    return peer


@dataclass(frozen=True, slots=True)
class Route:
    """Who may use the paths that a pattern matches.

    ``path`` is matched against the whole decoded path, segment by segment: ``*`` stands for one segment and ``**``, as
    the last one, for any number of them, none too. ``methods`` are HTTP methods in any case, where GET stands for HEAD
    too (RFC 9110 section 9.3.2); None means all, websockets too, and a route with methods does not match websockets.

    Raises:
        CallerError: the pattern is none, or ``methods`` is empty or a single text, so that the route would never match.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    path: str
    authorizer: Authorizer
    methods: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Check the pattern and the authorizer, and take methods in any case."""
        segments = self.path.split("/")[1:]
        if not self.path.startswith("/") or "**" in segments[:-1] or not _plain(self.path):
            raise CallerError(f"route path {self.path!r}: want '/…' with '*' for a segment and '**' at the end only")
        for segment in segments:
            if "*" in segment and segment not in ("*", "**"):
                raise CallerError(f"route path {self.path!r}: '*' stands for a whole segment, not for a part of one")
        object.__setattr__(self, "authorizer", require_authorizer(self.authorizer))
        if self.methods is not None:
            object.__setattr__(self, "methods", _methods(self.methods))

    def matches(self, path: str, method: str | None) -> bool:
        """Tell whether this route speaks of a request; ``method`` is None for a websocket."""
        if self.methods is not None and method not in self.methods:
            return False
        wanted, seen = self.path.split("/")[1:], path.split("/")[1:]
        if wanted[-1] == "**":
            wanted.pop()
            seen = seen[: len(wanted)]
        return len(wanted) == len(seen) and all(a == b or (a == "*" and b) for a, b in zip(wanted, seen, strict=True))


def _methods(given: object) -> frozenset[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise CallerError(f"methods={given!r} of a route: give a set, such as {{'GET', 'POST'}}")
    methods = frozenset(str(method).upper() for method in given)
    if not methods:
        raise CallerError("methods=… of a route names none, so it would never match; leave it out to mean all")
    return methods | {"HEAD"} if "GET" in methods else methods


class RouteAuthorizationMiddleware:
    """Ask the routes before the application: each route that matches must accept, and one must match.

    The order of routes does not matter, and adding one never allows more than before to a caller it does not name. A
    refusal is answered with 403 and a problem document (RFC 9457) that tells the caller nothing but that; the ID seen
    and what was wanted go to this module's logger at WARNING and to ``on_refused``. A path that can be read in two ways
    (empty, ``.`` or ``..`` segments, a backslash) is refused, since the application might read it the other way.
    Websockets are refused before they are accepted. Lifespan passes through.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[Route],
        *,
        on_refused: Callable[[SpiffeID | None, str, SpiffeError], None] | None = None,
    ) -> None:
        self._app = app
        self._routes = tuple(routes)
        self._on_refused = on_refused
        if not self._routes:
            raise CallerError("no routes: every request would be refused; name at least one Route")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        peer: SpiffeID | None = None
        try:
            peer = peer_spiffe_id(scope)
            self._authorize(peer, scope["path"], _method(scope))
        except SpiffeError as refusal:
            self._tell(peer, scope["path"], refusal)
            await _refuse(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _authorize(self, peer: SpiffeID, path: str, method: str | None) -> None:
        if not _plain(path):
            raise PeerNotAuthorizedError(peer, wanted="a path that reads one way only", action="normalize the path")
        matching = [route for route in self._routes if route.matches(path, method)]
        if not matching:
            raise PeerNotAuthorizedError(
                peer, wanted=f"a route for {method or 'websocket'!r} {path!r}", action="add a Route for it"
            )
        for route in matching:
            authorize(route.authorizer, peer)

    def _tell(self, peer: SpiffeID | None, path: str, refusal: SpiffeError) -> None:
        logger.warning("Request refused: %s peer=%s path=%r", refusal, peer, path)
        if self._on_refused is not None:
            self._on_refused(peer, path, refusal)


def _method(scope: Scope) -> str | None:
    """Return the method as routes spell it: who sends `post` must not escape the route for POST. None: a websocket."""
    method = scope.get("method")
    return None if method is None else str(method).upper()


def _plain(path: str) -> bool:
    """Tell whether a path reads one way only; one trailing slash is fine."""
    segments = path.split("/")[1:]
    return "\\" not in path and not any(s in (".", "..") for s in segments) and "" not in segments[:-1]


_PROBLEM = json.dumps({"type": "about:blank", "title": "Forbidden", "status": 403}).encode()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(_PROBLEM)).encode())]
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes before any answer
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": 403, "headers": headers})
    await send({"type": f"{kind}.body", "body": _PROBLEM})
