"""What the claims of every SPIFFE token have in common: whose it is and when it holds. Pure: `now` is given."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from authsec_sdk.errors import CallerError, InvalidSpiffeIDError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.jose.jws import UnverifiedJWS
from authsec_sdk.jose.keys import algorithms_of
from authsec_sdk.spiffe.ids import SpiffeID

__all__ = [
    "DEFAULT_LEEWAY",
    "MAX_LEEWAY",
    "Lifetime",
    "at",
    "check_times",
    "frozen",
    "read_lifetime",
    "read_subject",
    "verify_with",
]

DEFAULT_LEEWAY: Final = timedelta(seconds=30)
"""How far the clocks of issuer and validator may be apart; what tokens are given beyond their time."""

MAX_LEEWAY: Final = timedelta(minutes=5)

_LATEST: Final = 253_402_300_799  # the last second of the year 9999, where datetime ends
_MAX_KEYS_TRIED: Final = 16
_TEXT_CLAIMS: Final = ("iss", "jti")
_NO_TIME: Final = timedelta(0)
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

# Callers come again and again; refusals are not kept, and an ID has 2 KiB at most.
_parse_id: Final = functools.lru_cache(maxsize=1024)(SpiffeID.parse)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The registered times of a token, in seconds since 1970."""

    expires: float
    not_before: float | None
    issued: float | None


def read_subject(claims: Mapping[str, object]) -> SpiffeID:
    """Read `sub`, the SPIFFE ID of a workload: one with a path. Checks the type of `iss` and `jti`, too.

    Raises:
        InvalidTokenError: it is missing, no SPIFFE ID, or that of a trust domain.
    """
    for name in _TEXT_CLAIMS:
        if name in claims and not isinstance(claims[name], str):
            raise InvalidTokenError(TokenFault.CLAIM_INVALID, f"{name} must be a text")
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise InvalidTokenError(
            TokenFault.CLAIM_INVALID, "sub must be there and be a text: the SPIFFE ID of a workload"
        )
    try:
        spiffe_id = _parse_id(subject)
    except InvalidSpiffeIDError as error:
        raise InvalidTokenError(TokenFault.CLAIM_INVALID, f"sub must be a SPIFFE ID: {error}") from None
    if not spiffe_id.path:
        raise InvalidTokenError(TokenFault.CLAIM_INVALID, f"sub is {spiffe_id}, a trust domain and no workload")
    return spiffe_id


def read_lifetime(claims: Mapping[str, object]) -> Lifetime:
    """Read `exp`, which must be there, `nbf` and `iat` (RFC 7519 sections 4.1.4 to 4.1.6). Fractions count.

    Raises:
        InvalidTokenError: one is no number, below 0, or beyond the year 9999.
    """
    if "exp" not in claims:
        raise InvalidTokenError(TokenFault.CLAIM_INVALID, "exp is missing: the token would never expire")
    return Lifetime(
        _seconds(claims, "exp"),
        _seconds(claims, "nbf") if "nbf" in claims else None,
        _seconds(claims, "iat") if "iat" in claims else None,
    )


def check_times(lifetime: Lifetime, now: datetime, leeway: timedelta, *, issued_counts: bool) -> None:
    """Return if the token holds now. At the second of `exp`, leeway added, its time is over.

    Raises:
        InvalidTokenError: it has expired, does not hold yet, or (where that counts) says it was issued in the future.
        CallerError: `now` has no time zone, or the leeway is below zero or above five minutes.
    """
    if now.tzinfo is None:
        raise CallerError("the time to validate at needs a time zone: datetime.now(UTC)")
    if not _NO_TIME <= leeway <= MAX_LEEWAY:
        raise CallerError(f"a leeway must be from 0 to {MAX_LEEWAY}, for a longer one revives stolen tokens")
    seconds, slack = now.timestamp(), leeway.total_seconds()
    if math.floor(lifetime.expires) + slack <= seconds:
        raise InvalidTokenError(TokenFault.EXPIRED, f"the token expired at {at(lifetime.expires).isoformat()}")
    if lifetime.not_before is not None and lifetime.not_before > seconds + slack:
        raise InvalidTokenError(
            TokenFault.NOT_YET_VALID,
            f"the token holds from {at(lifetime.not_before).isoformat()} on: compare the clocks",
        )
    if issued_counts and lifetime.issued is not None and lifetime.issued > seconds + slack:
        raise InvalidTokenError(
            TokenFault.ISSUED_IN_THE_FUTURE,
            f"the token was issued at {at(lifetime.issued).isoformat()}, which is yet to come: compare the clocks",
        )


def verify_with(jws: UnverifiedJWS, authorities: Mapping[str, JWTPublicKey], whose: object) -> None:
    """Verify the signature with the key that `kid` names, or without `kid` (it is optional) with each one that fits.

    Raises:
        InvalidTokenError: no key fits, or the signature is by none of those.
    """
    if jws.key_id is not None:
        key = authorities.get(jws.key_id)
        if key is None:
            raise InvalidTokenError(
                TokenFault.UNKNOWN_KEY, f"the bundle of {whose} has no key {jws.key_id[:128]!r} for this kind of token"
            )
        jws.verify(key)
        return
    fitting = [key for key in authorities.values() if jws.algorithm in algorithms_of(key)]
    if not 0 < len(fitting) <= _MAX_KEYS_TRIED:
        raise InvalidTokenError(
            TokenFault.UNKNOWN_KEY,
            f"the token names no key (kid), and {len(fitting)} of {whose} are for {jws.algorithm}: "
            f"1 to {_MAX_KEYS_TRIED} are tried",
        )
    for key in fitting[:-1]:
        try:
            jws.verify(key)
        except InvalidTokenError:
            continue
        return
    jws.verify(fitting[-1])


def frozen(claims: Mapping[str, object]) -> Mapping[str, object]:
    """Return a view of the claims, arrays as tuples, which nobody can change."""
    return MappingProxyType(
        {name: value if type(value) in _SCALARS else _frozen(value) for name, value in claims.items()}
    )


def at(seconds: float) -> datetime:
    """The moment of a numeric date, to the second."""
    return datetime.fromtimestamp(math.floor(seconds), UTC)


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return frozen(value)
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _seconds(claims: Mapping[str, object], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LATEST:
        raise InvalidTokenError(TokenFault.CLAIM_INVALID, f"{name} must be a number of seconds since 1970")
    return value
