"""Routes of an application and who may use them: the one decision behind all HTTP middlewares. Pure."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from authsec_sdk import authz
from authsec_sdk.authz import Authorizer, Request, RequestAuthorizer, authorize, require_authorizer
from authsec_sdk.authz.route_pattern import RoutePattern
from authsec_sdk.errors import CallerError, NoIdentityError, PeerNotAuthorizedError
from authsec_sdk.integrations.trusted_front import ForwardedPeer
from authsec_sdk.spiffe import SpiffeID

__all__ = [
    "PROBLEM",
    "PROBLEM_TYPE",
    "Judge",
    "Route",
    "authorize_forwarded",
    "authorize_request",
    "require_judge",
    "require_routes",
]

Judge: TypeAlias = Callable[[SpiffeID, Request], None]
"""Accepts by returning None; raises `PeerNotAuthorizedError`."""

PROBLEM_TYPE = "application/problem+json"
PROBLEM = json.dumps({"type": "about:blank", "title": "Forbidden", "status": 403}).encode()
"""What a caller that is refused gets to know (RFC 9457)."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who may use the paths that a pattern matches.

    ``path`` is matched segment by segment against the path as the application's routes see it, percent-decoded and
    without the prefix (``root_path``) it is served under: ``*`` stands for one segment and ``**``, as the last one, for
    any number of them, none too. One slash at the end of a path says nothing. Patterns are those of policies
    (:class:`authsec_sdk.authz.route_pattern.RoutePattern`). ``methods`` are HTTP methods in any case, where GET stands
    for HEAD too (RFC 9110 section 9.3.2); None means all, websockets too, and a route with methods does not match
    websockets.

    ``authorizer`` judges the peer of the connection. With ``forwarded`` the peer must be a trusted front too, and the
    client that it speaks for is judged by that one.

    Raises:
        CallerError: the pattern is none, or ``methods`` is empty or a single text, so that the route would never match.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    path: str
    authorizer: Authorizer
    methods: frozenset[str] | None = None
    forwarded: Authorizer | None = None
    _pattern: RoutePattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the pattern and the authorizer, and take methods in any case."""
        object.__setattr__(self, "_pattern", RoutePattern.parse(self.path))
        object.__setattr__(self, "authorizer", require_authorizer(self.authorizer))
        if self.forwarded is not None:
            object.__setattr__(self, "forwarded", require_authorizer(self.forwarded))
        if self.methods is not None:
            object.__setattr__(self, "methods", _methods(self.methods))

    def matches(self, request: Request, *, websocket: bool = False) -> bool:
        """Tell whether this route speaks of a request."""
        if self.methods is not None and (websocket or request.action not in self.methods):
            return False
        return self._pattern.matches(request.segments)


def _methods(given: object) -> frozenset[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise CallerError(f"methods={given!r} of a route: give a set, such as {{'GET', 'POST'}}")
    methods = frozenset(str(method).upper() for method in given)
    if not methods:
        raise CallerError("methods=… of a route names none, so it would never match; leave it out to mean all")
    return methods | {"HEAD"} if "GET" in methods else methods


def require_routes(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Return the routes of a middleware.

    Raises:
        CallerError: there are none.

    """
    taken = tuple(routes)
    if not taken:
        raise CallerError("no routes: every request would be refused; name at least one Route")
    return taken


def authorize_request(
    routes: Sequence[Route],
    peer: SpiffeID,
    forwarded: ForwardedPeer | None,
    request: Request,
    *,
    websocket: bool = False,
) -> None:
    """Ask the routes: each that matches must accept, and one must match.

    Raises:
        PeerNotAuthorizedError: the request reads in two ways, no route matches, or one that does refuses.
        NoIdentityError: a route asks for a forwarded client, and there is none.

    """
    if request.fault:
        raise PeerNotAuthorizedError(peer, f"{request}, and {request.fault}", "let the client send what reads one way")
    matching = [route for route in routes if route.matches(request, websocket=websocket)]
    if not matching:
        kind = "websocket " if websocket else ""
        raise PeerNotAuthorizedError(peer, wanted=f"a route for {kind}{request}", action="add a Route for it")
    for route in matching:
        authorize(route.authorizer, peer)
        if route.forwarded is not None:
            authorize_forwarded(route.forwarded, forwarded)


def require_judge(candidate: Authorizer | RequestAuthorizer) -> Judge:
    """Return what an authorizer or a policy says of a peer and its request.

    Raises:
        InvalidAuthorizerError: it is neither.

    """
    if isinstance(candidate, RequestAuthorizer) and not isinstance(candidate, type):
        policy: RequestAuthorizer = candidate
        return lambda peer, request: authz.authorize_request(policy, peer, request)
    authorizer = require_authorizer(candidate)
    return lambda peer, _request: authorize(authorizer, peer)


def authorize_forwarded(authorizer: Authorizer, forwarded: ForwardedPeer | None) -> None:
    """Judge the client that a trusted front speaks for.

    Raises:
        PeerNotAuthorizedError: it is refused.
        NoIdentityError: the peer of the connection speaks for nobody.

    """
    if forwarded is None:
        raise NoIdentityError("no trusted front speaks for a client here")
    authorize(authorizer, forwarded.spiffe_id)
