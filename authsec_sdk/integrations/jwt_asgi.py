"""ASGI middleware that authenticates callers by a JWT-SVID in ``Authorization: Bearer`` (no extra needed).

The identity is one by token, and not that of the connection: it has a type and a place in the scope of its own, so that
nobody takes the one for the other. Read it with :func:`token_identity`; :func:`authsec_sdk.integrations.asgi.
peer_spiffe_id` still names who is at the other end of the connection, such as a gateway.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from authsec_sdk.authz import Authorizer, authorize, require_authorizer
from authsec_sdk.errors import CallerError, NotReadyError, PeerCredentialError, PeerNotAuthorizedError, SpiffeError
from authsec_sdk.integrations.asgi import ASGIApp, Receive, Scope, Send
from authsec_sdk.spiffe import JWTSVID, Audience, SpiffeID

__all__ = ["JWTBearerMiddleware", "TokenIdentity", "TokenValidator", "token_identity"]

_KEY = "spiffe_token"
_CHALLENGE = 'Bearer realm="spiffe"'

logger = logging.getLogger(__name__)


class TokenValidator(Protocol):
    """What judges tokens without blocking: a :class:`~authsec_sdk.workloadapi.JWTSource`."""

    def validate(self, token: str, audience: Audience) -> JWTSVID:
        """Return the SVID of a token that is right in all."""


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    """Who a request is from, as its token says; the token itself, a credential, is not in it.

    Weaker than a peer of mutual TLS: whoever holds the token is taken for the workload until ``expires_at``.
    """

    spiffe_id: SpiffeID
    audience: tuple[str, ...]
    expires_at: datetime
    claims: Mapping[str, object]


def token_identity(scope: Scope) -> TokenIdentity:
    """Return who sent this request, by its JWT-SVID.

    Raises:
        CallerError: no :class:`JWTBearerMiddleware` is in front of this application.

    """
    identity = (scope.get("extensions") or {}).get(_KEY)
    if not isinstance(identity, TokenIdentity):
        raise CallerError("this scope carries no identity by token: wrap the application in JWTBearerMiddleware")
    return identity


class _RefusedError(Exception):
    """An answer instead of the application's: a status, and what `WWW-Authenticate` says (RFC 6750 section 3)."""

    def __init__(self, status: int, title: str, reason: SpiffeError, challenge: str | None = None) -> None:
        super().__init__(title)
        self.status, self.title, self.reason, self.challenge = status, title, reason, challenge


class JWTBearerMiddleware:
    """Lets through who sends exactly one valid JWT-SVID for one of our names, and whom the authorizer accepts.

    ``audience`` are the names this service goes by, at least one; a single text is one name. The token is looked for in
    ``Authorization`` and nowhere else, neither in the URL nor in the body. One bound to a key (``cnf``) is refused: a
    bearer proves no key. Nothing blocks: keys come from the source, which follows them. What the caller hears is RFC
    6750's: 401 without a token or with a wrong one, 400 for a header that cannot be read, 403 for a caller the
    authorizer refuses, 503 before the first keys are there; and no reason.
    This module's logger hears the reason at WARNING, and ``on_refused`` with the ID, as far as it was proven, and the
    path. Websockets are refused before they are accepted. Lifespan passes through.

    What is not checked: whether a token was used before, whether the connection it came over was encrypted, and, once a
    request or websocket has begun, whether the token has expired meanwhile.

    Raises:
        CallerError: no audience.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    def __init__(
        self,
        app: ASGIApp,
        source: TokenValidator,
        audience: Audience | str,
        authorizer: Authorizer,
        *,
        on_refused: Callable[[SpiffeID | None, str, SpiffeError], None] | None = None,
    ) -> None:
        names = (audience,) if isinstance(audience, str) else tuple(audience)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise CallerError(f"audience={audience!r}: name this service, or tokens meant for others would do")
        self._app = app
        self._source = source
        self._audience = names
        self._authorizer = require_authorizer(authorizer)
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            identity = self._identify(scope)
        except _RefusedError as refusal:
            await _answer(refusal, scope, receive, send)
            return
        scope["extensions"] = {**(scope.get("extensions") or {}), _KEY: identity}
        await self._app(scope, receive, send)

    def _identify(self, scope: Scope) -> TokenIdentity:
        svid: JWTSVID | None = None
        try:
            svid = self._source.validate(_token(scope), self._audience)
            if "cnf" in svid.claims:
                raise PeerCredentialError("the token is bound to a key (cnf), which a bearer does not prove")
            authorize(self._authorizer, svid.id)
        except _RefusedError as refusal:
            self._tell(None, scope, refusal.reason)
            raise
        except PeerCredentialError as reason:
            self._tell(None, scope, reason)
            raise _RefusedError(401, "Unauthorized", reason, _CHALLENGE + ', error="invalid_token"') from reason
        except PeerNotAuthorizedError as reason:
            self._tell(None if svid is None else svid.id, scope, reason)
            raise _RefusedError(403, "Forbidden", reason) from reason
        except NotReadyError as reason:
            self._tell(None, scope, reason)
            raise _RefusedError(503, "Service Unavailable", reason) from reason
        return TokenIdentity(svid.id, svid.audience, svid.expires_at, svid.claims)

    def _tell(self, caller: SpiffeID | None, scope: Scope, reason: SpiffeError) -> None:
        logger.warning("Request refused: %s caller=%s path=%r", reason, caller, scope["path"])
        if self._on_refused is not None:
            self._on_refused(caller, scope["path"], reason)


def _token(scope: Scope) -> str:
    """Return the one bearer token of a request."""
    values = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if not values:
        raise _RefusedError(401, "Unauthorized", PeerCredentialError("no Authorization header"), _CHALLENGE)
    if len(values) > 1:
        raise _unreadable("more than one Authorization header")
    scheme, _, token = bytes(values[0]).strip(b" \t").partition(b" ")
    if scheme.lower() != b"bearer":
        raise _RefusedError(401, "Unauthorized", PeerCredentialError("Authorization is not of Bearer"), _CHALLENGE)
    token = token.strip(b" ")
    if not token or not token.isascii() or any(char <= 0x20 or char == 0x7F for char in token):
        raise _unreadable("Authorization: Bearer, and then not one token")
    return token.decode("ascii")


def _unreadable(why: str) -> _RefusedError:
    return _RefusedError(400, "Bad Request", PeerCredentialError(why), _CHALLENGE + ', error="invalid_request"')


async def _answer(refusal: _RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a problem document (RFC 9457) that tells no reason."""
    body = json.dumps({"type": "about:blank", "title": refusal.title, "status": refusal.status}).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if refusal.challenge is not None:
        headers.append((b"www-authenticate", refusal.challenge.encode()))
    if refusal.status == 503:
        headers.append((b"retry-after", b"1"))
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes before any answer
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
