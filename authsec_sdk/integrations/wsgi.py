"""The caller's SPIFFE ID in WSGI applications, and middleware that authorizes by route (no extra needed).

WSGI knows nothing of TLS. The peer is taken from the connection itself, where the server puts that into the environ and
its context is one of ours: ``gunicorn.socket``, ``werkzeug.socket``, or ``authsec.socket``
(:mod:`authsec_sdk.integrations.wsgiref`). A header always arrives as ``HTTP_…``, so none of these can be sent. A server
behind a proxy without mutual TLS of ours, over loopback or a Unix socket, has no peer, and every request is refused.

For trusted fronts the headers must be seen as they came: servers make ``X_Forwarded_Client_Cert`` and the real header
one. gunicorn needs ``from authsec_sdk.integrations.wsgi import keep_raw_headers as pre_request`` in its configuration.
"""

import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from authsec_sdk import authz
from authsec_sdk.authz import Request, RequestAuthorizer
from authsec_sdk.errors import CallerError, NoIdentityError, SpiffeError
from authsec_sdk.integrations._routes import PROBLEM, PROBLEM_TYPE, Route, authorize_request, require_routes
from authsec_sdk.integrations.asgi import OnRefused
from authsec_sdk.integrations.trusted_front import ForwardedPeer, TrustedFronts, is_forwarded_header
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import SpiffeSSLSocket

__all__ = [
    "FORWARDED",
    "RAW_HEADERS",
    "SOCKET",
    "PolicyMiddleware",
    "Route",
    "RouteAuthorizationMiddleware",
    "TrustedFrontMiddleware",
    "forwarded_peer",
    "keep_raw_headers",
    "peer_spiffe_id",
]

Environ: TypeAlias = MutableMapping[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
RawHeaders: TypeAlias = tuple[tuple[str, str], ...]

SOCKET = "authsec.socket"
"""Where a server of ours puts the connection."""
RAW_HEADERS = "authsec.headers"
"""Where a server of ours puts the headers as they came: a tuple of name and value."""
FORWARDED = "authsec.forwarded"
"""Where `TrustedFrontMiddleware` puts the client: a `ForwardedPeer`, or None."""

_SOCKETS = (SOCKET, "gunicorn.socket", "werkzeug.socket")

logger = logging.getLogger(__name__)

_kept: "weakref.WeakKeyDictionary[SpiffeSSLSocket, RawHeaders]" = weakref.WeakKeyDictionary()


def peer_spiffe_id(environ: Environ) -> SpiffeID:
    """Return the caller's SPIFFE ID: the peer of the connection, as the handshake verified it.

    Raises:
        NoIdentityError: when the caller presented no certificate.
        CallerError: when the server gives no connection of ours: it does not tell, or TLS ended somewhere else.

    """
    peer = connection_of(environ).peer_spiffe_id
    if peer is None:
        raise NoIdentityError("the caller presented no certificate; ask for one with client_certificate='require'")
    return peer


def forwarded_peer(environ: Environ) -> ForwardedPeer:
    """Return the client that the peer of the connection, a trusted front, speaks for.

    Raises:
        NoIdentityError: the peer is no trusted front, or its client presented no certificate.
        CallerError: no :class:`TrustedFrontMiddleware` is in front of this application.

    """
    if FORWARDED not in environ:
        raise CallerError("nothing is read from trusted fronts here: wrap the application in TrustedFrontMiddleware")
    forwarded = environ[FORWARDED]
    if not isinstance(forwarded, ForwardedPeer):
        raise NoIdentityError("no trusted front speaks for a client here")
    return forwarded


def connection_of(environ: Environ) -> SpiffeSSLSocket:
    """Return the connection a request came over.

    Raises:
        CallerError: it is none of ours, or the server does not give it.

    """
    for key in _SOCKETS:
        found = environ.get(key)
        if isinstance(found, SpiffeSSLSocket):
            return found
    raise CallerError(
        "this request came over no connection whose peer is known: let the WSGI server end TLS itself with "
        "mtls_server_context(…), as gunicorn, werkzeug and authsec_sdk.integrations.wsgiref can; what a proxy says "
        "over a plain connection is not believed"
    )


def keep_raw_headers(_worker: Any, request: Any) -> None:
    """Keep the headers of a request as they came; gunicorn's hook `pre_request`, needed for trusted fronts there.

    Not those of HTTP/2, where several requests share a connection: a front speaks HTTP/1.1 to gunicorn, or is refused.
    """
    connection = getattr(getattr(request, "unreader", None), "sock", None)
    if isinstance(connection, SpiffeSSLSocket):
        _kept[connection] = tuple((str(name), str(value)) for name, value in request.headers)


def read_forwarded(fronts: TrustedFronts, environ: Environ) -> ForwardedPeer | None:
    """Return whom the peer speaks for, and take the header out of the environ, whoever sent it.

    Raises:
        CallerError: the connection, or what a front sent before the server mapped it, cannot be known.
        InvalidForwardedHeaderError: a front sent what cannot be believed.

    """
    for key in [key for key in environ if key.startswith("HTTP_") and is_forwarded_header(key[len("HTTP_") :])]:
        del environ[key]
    connection = connection_of(environ)
    kept = _kept.pop(connection, None)  # of this request alone: the next one on this connection keeps its own
    raw = environ.get(RAW_HEADERS, kept)
    peer = connection.peer_spiffe_id
    if peer not in fronts:
        return None
    if not isinstance(raw, tuple):
        raise CallerError(
            "the headers of a trusted front are not known as they came: under gunicorn add `from "
            "authsec_sdk.integrations.wsgi import keep_raw_headers as pre_request` to its configuration, and let the "
            "front speak HTTP/1.1"
        )
    return fronts.read(peer, raw)


def path_of(environ: Environ) -> str:
    """Return the decoded path that the application goes by, with U+FFFD, which refuses it, for what is not UTF-8.

    Without `SCRIPT_NAME`: gunicorn takes that from a header of whoever calls over loopback, and with the whole path
    judged, `/public/admin` below a claimed `/public` would be `/admin` to the application alone.
    """
    return str(environ.get("PATH_INFO", "")).encode("latin-1", "replace").decode("utf-8", "replace") or "/"


def request_of(environ: Environ) -> Request:
    """Return what routes and policies are asked about."""
    raw = environ.get("RAW_URI")
    return Request.http(str(environ["REQUEST_METHOD"]), path_of(environ), raw if isinstance(raw, str) else None)


class _Middleware(ABC):
    """Judge a request before the application has it; 403 with a problem document (RFC 9457) where it is refused."""

    def __init__(self, app: WSGIApp, on_refused: OnRefused | None) -> None:
        self._app = app
        self._on_refused = on_refused

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        peer: SpiffeID | None = None
        try:
            peer = connection_of(environ).peer_spiffe_id
            self._judge(environ)
        except SpiffeError as refusal:
            path = path_of(environ)
            logger.warning("Request refused: %s peer=%s path=%r", refusal, peer, path)
            if self._on_refused is not None:
                self._on_refused(peer, path, refusal)
            start_response("403 Forbidden", [("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(PROBLEM)))])
            return [PROBLEM]
        return self._app(environ, start_response)

    @abstractmethod
    def _judge(self, environ: Environ) -> None:
        """Return if the request may go on; raise if not."""


class RouteAuthorizationMiddleware(_Middleware):
    """Ask the routes before the application: each route that matches must accept, and one must match.

    As `authsec_sdk.integrations.asgi.RouteAuthorizationMiddleware`: refusals are a 403 with a problem document
    (RFC 9457), and the reason goes to this module's logger at WARNING and to ``on_refused`` alone.
    """

    def __init__(self, app: WSGIApp, routes: Iterable[Route], *, on_refused: OnRefused | None = None) -> None:
        super().__init__(app, on_refused)
        self._routes = require_routes(routes)

    def _judge(self, environ: Environ) -> None:
        authorize_request(self._routes, peer_spiffe_id(environ), environ.get(FORWARDED), request_of(environ))


class PolicyMiddleware(_Middleware):
    """Ask a policy before the application, about the method and path of each request; refusals are told as above.

    Raises:
        InvalidAuthorizerError: ``policy`` is none.

    """

    def __init__(self, app: WSGIApp, policy: RequestAuthorizer, *, on_refused: OnRefused | None = None) -> None:
        super().__init__(app, on_refused)
        self._policy = authz.require_request_authorizer(policy)

    def _judge(self, environ: Environ) -> None:
        authz.authorize_request(self._policy, peer_spiffe_id(environ), request_of(environ))


class TrustedFrontMiddleware(_Middleware):
    """Read from named fronts which client they speak for, and keep the header from the application in every case.

    The peer of the connection stays the peer (:func:`peer_spiffe_id`); the client is another value
    (:func:`forwarded_peer`, ``Route(…, forwarded=…)``). Put it outside of all that authorizes. A front that says what
    cannot be believed is answered with 403; so is every request over a connection whose peer is not known.
    """

    def __init__(self, app: WSGIApp, fronts: TrustedFronts, *, on_refused: OnRefused | None = None) -> None:
        super().__init__(app, on_refused)
        self._fronts = fronts

    def _judge(self, environ: Environ) -> None:
        environ[FORWARDED] = read_forwarded(self._fronts, environ)
