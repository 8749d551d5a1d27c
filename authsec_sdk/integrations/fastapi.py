"""FastAPI behind mutual TLS: the peer as a dependency, authorizers per route, and OpenAPI (extra ``fastapi``).

``Peer`` in a signature gives the SPIFFE ID of the connection's peer, as the handshake verified it. ``authorized(…)`` is
a dependency for routes, routers and websockets that also refuses whom an authorizer, or a policy, does not accept. Both
write the security scheme into the OpenAPI document, and ``add_mutual_tls(app)`` completes it there.

The server is one of ours (:mod:`authsec_sdk.integrations.uvicorn` and others). No header is believed; behind a proxy
see :class:`authsec_sdk.integrations.asgi.TrustedFrontMiddleware`, then ``Client`` and ``authorized(…, forwarded=…)``.
"""

import logging
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, WebSocketException
from fastapi.openapi.models import HTTPBase
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from starlette.responses import Response

from authsec_sdk.authz import Authorizer, RequestAuthorizer, require_authorizer
from authsec_sdk.errors import SpiffeError
from authsec_sdk.integrations._routes import PROBLEM, PROBLEM_TYPE, authorize_forwarded, require_judge
from authsec_sdk.integrations.asgi import OnRefused, forwarded_peer, peer_spiffe_id, request_of
from authsec_sdk.integrations.trusted_front import ForwardedPeer
from authsec_sdk.spiffe import SpiffeID

__all__ = ["Client", "MutualTLS", "Peer", "RefusedError", "add_mutual_tls", "authorized"]

logger = logging.getLogger(__name__)

_DESCRIPTION = "The caller presents an X509-SVID; its SPIFFE ID decides."


class RefusedError(HTTPException):
    """A request of a peer that may not make it: 403 and nothing more. The reason is for the operator alone."""

    def __init__(self) -> None:
        super().__init__(403, detail="Forbidden", headers={"content-type": PROBLEM_TYPE})


class MutualTLS(SecurityBase):
    """A dependency that gives the `SpiffeID` of the connection's peer; without one the answer is 403.

    A refusal goes to this module's logger at WARNING, and to `on_refused`.
    """

    def __init__(self, *, scheme_name: str = "mutualTLS", on_refused: OnRefused | None = None) -> None:
        self.scheme_name = scheme_name
        # FastAPI's model of OpenAPI 3.1 has no mutualTLS, and refuses what it does not know: `add_mutual_tls` puts the
        # right one in the place of this one.
        self.model = HTTPBase(scheme="mutual", description=_DESCRIPTION)
        self._on_refused = on_refused

    async def __call__(self, connection: HTTPConnection) -> SpiffeID:
        """Return the peer of a request or websocket.

        Raises:
            RefusedError: there is none, or it may not make this request. Of a websocket that has no room for an answer,
                `WebSocketException` before it is accepted.

        """
        peer: SpiffeID | None = None
        try:
            peer = peer_spiffe_id(connection.scope)
            self._judge(peer, connection)
        except SpiffeError as refusal:
            path = str(connection.scope["path"])
            logger.warning("Request refused: %s peer=%s path=%r", refusal, peer, path)
            if self._on_refused is not None:
                self._on_refused(peer, path, refusal)
            answerable = "websocket.http.response" in (connection.scope.get("extensions") or {})
            if connection.scope["type"] == "websocket" and not answerable:
                raise WebSocketException(1008) from None
            raise RefusedError from None
        return peer

    def _judge(self, peer: SpiffeID, connection: HTTPConnection) -> None:
        """Accept every peer."""


class _Authorized(MutualTLS):
    def __init__(
        self,
        authorizer: Authorizer | RequestAuthorizer,
        forwarded: Authorizer | None,
        on_refused: OnRefused | None,
    ) -> None:
        super().__init__(on_refused=on_refused)
        self._of_peer = require_judge(authorizer)
        self._of_client = None if forwarded is None else require_authorizer(forwarded)

    def _judge(self, peer: SpiffeID, connection: HTTPConnection) -> None:
        self._of_peer(peer, request_of(connection.scope))
        if self._of_client is not None:
            authorize_forwarded(self._of_client, forwarded_peer(connection.scope))


def authorized(
    authorizer: Authorizer | RequestAuthorizer,
    *,
    forwarded: Authorizer | None = None,
    on_refused: OnRefused | None = None,
) -> MutualTLS:
    """Return a dependency that refuses every peer the authorizer does not accept, and gives the `SpiffeID` of others.

    For a route, ``Annotated[SpiffeID, Depends(authorized(…))]`` or ``dependencies=[Depends(authorized(…))]``; the
    latter for a whole router, too. Several dependencies must all accept. ``authorizer`` may be a policy, which is asked
    about the method and path of each request. With ``forwarded`` the peer must be a trusted front too, and that judges
    the client it speaks for.

    Raises:
        InvalidAuthorizerError: one of them cannot be an authorizer.

    """
    return _Authorized(authorizer, forwarded, on_refused)


async def _client(connection: HTTPConnection) -> ForwardedPeer:
    try:
        return forwarded_peer(connection.scope)
    except SpiffeError as refusal:
        logger.warning("Request refused: %s path=%r", refusal, connection.scope["path"])
        if connection.scope["type"] == "websocket":
            raise WebSocketException(1008) from None
        raise RefusedError from None


Peer = Annotated[SpiffeID, Depends(MutualTLS())]
"""The peer of the connection, whoever it is that the server lets in."""

Client = Annotated[ForwardedPeer, Depends(_client)]
"""The client that a trusted front speaks for; 403 without."""


def add_mutual_tls(app: FastAPI) -> None:
    """Answer refusals with a problem document (RFC 9457), and write `mutualTLS` and the 403 into the OpenAPI document.

    Without it refusals are the same 403 with less in them, and the document shows a scheme of HTTP's instead.
    """

    async def refused(_request: Any, _error: Exception) -> Response:
        return Response(PROBLEM, 403, media_type=PROBLEM_TYPE)

    app.add_exception_handler(RefusedError, refused)
    original = app.openapi

    def openapi() -> dict[str, Any]:
        return _completed(original())

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation on extending OpenAPI has it


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    ours = set()
    for name, scheme in document.get("components", {}).get("securitySchemes", {}).items():
        if scheme.get("description") == _DESCRIPTION:
            scheme.clear()
            scheme.update(type="mutualTLS", description=_DESCRIPTION)
            ours.add(name)
    for path in document.get("paths", {}).values():
        for operation in path.values():
            if isinstance(operation, dict) and any(ours & set(wanted) for wanted in operation.get("security", ())):
                operation["responses"].setdefault("403", {"description": "Forbidden", "content": {PROBLEM_TYPE: {}}})
    return document
