"""ASGI middleware that authenticates callers by a JWT-SVID in ``Authorization: Bearer`` (no extra needed).

The identity is one by token, and not that of the connection: it has a type and a place in the scope of its own, so that
nobody takes the one for the other. Read it with :func:`token_identity`; :func:`authsec_sdk.integrations.asgi.
peer_spiffe_id` still names who is at the other end of the connection, such as a gateway.
"""

import logging

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._bearer import BearerJudge, OnTokenRefused, Refusal, TokenIdentity, TokenValidator
from authsec_sdk.integrations.asgi import ASGIApp, Receive, Scope, Send
from authsec_sdk.spiffe import Audience

__all__ = ["JWTBearerMiddleware", "TokenIdentity", "TokenValidator", "token_identity"]

_KEY = "spiffe_token"

logger = logging.getLogger(__name__)


def token_identity(scope: Scope) -> TokenIdentity:
    """Return who sent this request, by its JWT-SVID.

    Raises:
        CallerError: no :class:`JWTBearerMiddleware` is in front of this application.

    """
    identity = (scope.get("extensions") or {}).get(_KEY)
    if not isinstance(identity, TokenIdentity):
        raise CallerError("this scope carries no identity by token: wrap the application in JWTBearerMiddleware")
    return identity


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
        on_refused: OnTokenRefused | None = None,
    ) -> None:
        self._app = app
        self._judge = BearerJudge(source, audience, authorizer, on_refused, logger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            values = [bytes(value) for name, value in scope["headers"] if name.lower() == b"authorization"]
            identity = self._judge.identify(values, scope["path"])
        except Refusal as refusal:
            await _answer(refusal, scope, receive, send)
            return
        scope["extensions"] = {**(scope.get("extensions") or {}), _KEY: identity}
        await self._app(scope, receive, send)


async def _answer(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers]
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes before any answer
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": refusal.body})
