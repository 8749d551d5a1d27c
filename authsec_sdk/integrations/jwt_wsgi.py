"""WSGI middleware that authenticates callers by a JWT-SVID in ``Authorization: Bearer`` (no extra needed).

As :mod:`authsec_sdk.integrations.jwt_asgi`, for Flask, Django on WSGI and their like. The identity is one by token, and
not that of the connection: read it with :func:`token_identity`.
"""

import http
import logging
from collections.abc import Iterable

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._bearer import BearerJudge, OnTokenRefused, Refusal, TokenIdentity, TokenValidator
from authsec_sdk.integrations.wsgi import Environ, StartResponse, WSGIApp, path_of
from authsec_sdk.spiffe import Audience

__all__ = ["JWTBearerMiddleware", "TokenIdentity", "TokenValidator", "token_identity"]

_KEY = "authsec.token"

logger = logging.getLogger(__name__)


def token_identity(environ: Environ) -> TokenIdentity:
    """Return who sent this request, by its JWT-SVID.

    Raises:
        CallerError: no :class:`JWTBearerMiddleware` is in front of this application.

    """
    identity = environ.get(_KEY)
    if not isinstance(identity, TokenIdentity):
        raise CallerError("this environ carries no identity by token: wrap the application in JWTBearerMiddleware")
    return identity


class JWTBearerMiddleware:
    """Lets through who sends exactly one valid JWT-SVID for one of our names, and whom the authorizer accepts.

    Everything holds that `authsec_sdk.integrations.jwt_asgi.JWTBearerMiddleware` says, with this module's logger. WSGI
    servers make one text of two ``Authorization`` headers, with a comma, or keep one of them: a text of two tokens is
    no token.

    Raises:
        CallerError: no audience.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    def __init__(
        self,
        app: WSGIApp,
        source: TokenValidator,
        audience: Audience | str,
        authorizer: Authorizer,
        *,
        on_refused: OnTokenRefused | None = None,
    ) -> None:
        self._app = app
        self._judge = BearerJudge(source, audience, authorizer, on_refused, logger)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        given = environ.get("HTTP_AUTHORIZATION")
        try:
            values = [] if given is None else [str(given).encode("latin-1", "replace")]
            environ[_KEY] = self._judge.identify(values, path_of(environ))
        except Refusal as refusal:
            status = f"{refusal.status} {http.HTTPStatus(refusal.status).phrase}"
            start_response(status, [(name.title(), value) for name, value in refusal.headers])
            return [refusal.body]
        return self._app(environ, start_response)
