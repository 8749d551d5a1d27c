"""What to put into a JWT-SVID or WIT-SVID, before anything is signed: pure, as SPIRE's server fills it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from authsec_sdk.spiffe import SpiffeID
from icp_server.domain.confirmation import ConfirmationKey
from icp_server.domain.errors import Internal, InvalidArgument, Unavailable


@dataclass(frozen=True, slots=True)
class JWTRequest:
    """Which JWT-SVID to sign. `ttl` in seconds: 0 or less means the server's default."""

    spiffe_id: SpiffeID
    audience: tuple[str, ...]
    ttl: int = 0
    include_jti: bool = False


@dataclass(frozen=True, slots=True)
class WITRequest:
    """Which WIT-SVID to sign, bound to which key. `ttl` in seconds: 0 or less means the server's default."""

    spiffe_id: SpiffeID
    confirmation: ConfirmationKey
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """When a token is issued and when it ends, in Unix seconds."""

    issued_at: int
    expires_at: int


def token_times(now: datetime, ttl: timedelta, authority_not_after: datetime, words: str) -> TokenTimes:
    """The times of a token: whole seconds, and never beyond the authority that signs it.

    Raises:
        Unavailable: the authority has expired, so that nothing it signs would be of use.
    """
    issued_at, end = int(now.timestamp()), int(authority_not_after.timestamp())
    if issued_at >= end:
        raise Unavailable(f"the {words} authority has expired")
    return TokenTimes(issued_at, min(issued_at + max(int(ttl.total_seconds()), 1), end))


def jwt_claims(request: JWTRequest, times: TokenTimes, issuer: str, new_id: Callable[[], str]) -> dict[str, object]:
    """The claims of a JWT-SVID (JWT-SVID section 3): `aud` is a list, also of one; `iss` and `jti` where wanted."""
    claims: dict[str, object] = {
        "sub": str(request.spiffe_id),
        "aud": list(request.audience),
        "exp": times.expires_at,
        "iat": times.issued_at,
    }
    if issuer:
        claims["iss"] = issuer
    if request.include_jti:
        claims["jti"] = new_id()
    return claims


def wit_claims(request: WITRequest, times: TokenTimes, issuer: str) -> dict[str, object]:
    """The claims of a WIT-SVID (WIT-SVID section 3): bound to a key by `cnf.jwk`, and never with an `aud`."""
    claims: dict[str, object] = {
        "sub": str(request.spiffe_id),
        "exp": times.expires_at,
        "iat": times.issued_at,
        "cnf": {"jwk": request.confirmation.jwk()},
    }
    if issuer:
        claims["iss"] = issuer
    return claims


def checked_audience(audience: Sequence[str]) -> tuple[str, ...]:
    """The audience without empty names, which SPIRE drops beside real ones.

    Raises:
        InvalidArgument: there is none at all.
        Internal: all are empty (upstream's code for it).
    """
    if not audience:
        raise InvalidArgument("at least one audience is required")
    named = tuple(name for name in audience if name)
    if not named:
        raise Internal("failed to sign JWT-SVID: invalid JWT-SVID audience: cannot be empty")
    return named
