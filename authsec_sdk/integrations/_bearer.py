"""Judge callers by the JWT-SVID in `Authorization: Bearer`: what the ASGI and the WSGI middleware have in common."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from authsec_sdk.authz import Authorizer, authorize, require_authorizer
from authsec_sdk.errors import CallerError, NotReadyError, PeerCredentialError, PeerNotAuthorizedError, SpiffeError
from authsec_sdk.integrations._routes import PROBLEM_TYPE
from authsec_sdk.spiffe import JWTSVID, Audience, SpiffeID

__all__ = ["BearerJudge", "OnTokenRefused", "Refusal", "TokenIdentity", "TokenValidator"]

OnTokenRefused: TypeAlias = Callable[[SpiffeID | None, str, SpiffeError], None]
"""Told who was refused, as far as it was proven, the path, and why."""

_CHALLENGE = 'Bearer realm="spiffe"'


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


class Refusal(Exception):
    """An answer instead of the application's: a status, and what `WWW-Authenticate` says (RFC 6750 section 3)."""

    def __init__(self, status: int, title: str, reason: SpiffeError, challenge: str | None = None) -> None:
        super().__init__(title)
        self.status, self.title, self.reason, self.challenge = status, title, reason, challenge

    @property
    def body(self) -> bytes:
        """A problem document (RFC 9457) that tells no reason."""
        return json.dumps({"type": "about:blank", "title": self.title, "status": self.status}).encode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The answer's headers."""
        headers = [("content-type", PROBLEM_TYPE), ("content-length", str(len(self.body)))]
        if self.challenge is not None:
            headers.append(("www-authenticate", self.challenge))
        if self.status == 503:
            headers.append(("retry-after", "1"))
        return headers


class BearerJudge:
    """Says who sent a request, by exactly one valid JWT-SVID for one of our names, or refuses and tells the operator.

    Raises:
        CallerError: no audience.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    def __init__(
        self,
        source: TokenValidator,
        audience: Audience | str,
        authorizer: Authorizer,
        on_refused: OnTokenRefused | None,
        logger: logging.Logger,
    ) -> None:
        names = (audience,) if isinstance(audience, str) else tuple(audience)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise CallerError(f"audience={audience!r}: name this service, or tokens meant for others would do")
        self._source = source
        self._audience = names
        self._authorizer = require_authorizer(authorizer)
        self._on_refused = on_refused
        self._logger = logger

    def identify(self, values: Sequence[bytes], path: str) -> TokenIdentity:
        """Return who sent a request, by the values of its headers `Authorization`.

        Raises:
            Refusal: nobody whom the authorizer accepts; told already.
        """
        svid: JWTSVID | None = None
        try:
            svid = self._source.validate(_token(values), self._audience)
            if "cnf" in svid.claims:
                raise PeerCredentialError("the token is bound to a key (cnf), which a bearer does not prove")
            authorize(self._authorizer, svid.id)
        except Refusal as refusal:
            self._tell(None, path, refusal.reason)
            raise
        except PeerCredentialError as reason:
            self._tell(None, path, reason)
            raise Refusal(401, "Unauthorized", reason, _CHALLENGE + ', error="invalid_token"') from reason
        except PeerNotAuthorizedError as reason:
            self._tell(None if svid is None else svid.id, path, reason)
            raise Refusal(403, "Forbidden", reason) from reason
        except NotReadyError as reason:
            self._tell(None, path, reason)
            raise Refusal(503, "Service Unavailable", reason) from reason
        return TokenIdentity(svid.id, svid.audience, svid.expires_at, svid.claims)

    def _tell(self, caller: SpiffeID | None, path: str, reason: SpiffeError) -> None:
        self._logger.warning("Request refused: %s caller=%s path=%r", reason, caller, path)
        if self._on_refused is not None:
            self._on_refused(caller, path, reason)


def _token(values: Sequence[bytes]) -> str:
    """Return the one bearer token of a request."""
    if not values:
        raise Refusal(401, "Unauthorized", PeerCredentialError("no Authorization header"), _CHALLENGE)
    if len(values) > 1:
        raise _unreadable("more than one Authorization header")
    scheme, _, token = bytes(values[0]).strip(b" \t").partition(b" ")
    if scheme.lower() != b"bearer":
        raise Refusal(401, "Unauthorized", PeerCredentialError("Authorization is not of Bearer"), _CHALLENGE)
    token = token.strip(b" ")
    if not token or not token.isascii() or any(char <= 0x20 or char == 0x7F for char in token):
        raise _unreadable("Authorization: Bearer, and then not one token")
    return token.decode("ascii")


def _unreadable(why: str) -> Refusal:
    return Refusal(400, "Bad Request", PeerCredentialError(why), _CHALLENGE + ', error="invalid_request"')
