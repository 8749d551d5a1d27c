"""Whom a token is for: a collection of texts, and never one text taken for a collection of letters; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from authsec_sdk.errors import CallerError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault

__all__ = ["MAX_AUDIENCES", "Audience", "InvalidAudienceError", "check_audience", "match_audience", "read_audience"]

MAX_AUDIENCES: Final = 32

Audience = Collection[str]
"""Names of services, such as `["payments"]`."""


class InvalidAudienceError(CallerError, ValueError):
    """What was given as an audience is a single text, empty, or holds something that is no name."""


def check_audience(audience: Audience) -> tuple[str, ...]:
    """Return the names without repetition, in the order given.

    Raises:
        InvalidAudienceError: it is a `str`, whose letters would each be a name; is empty, which would mean everybody;
            or holds anything but texts that are not empty.
    """
    plain = type(audience) is list or type(audience) is tuple
    if not plain and isinstance(audience, str | bytes):
        raise InvalidAudienceError(f"an audience is a collection of names: write [{audience!r:.200}]")
    if not plain and (not isinstance(audience, Collection) or isinstance(audience, Mapping)):
        raise InvalidAudienceError(f"an audience is a collection of names, not {type(audience).__name__}")
    names = tuple(dict.fromkeys(_name(name) for name in audience))
    if not names:
        raise InvalidAudienceError("an audience must not be empty: name the service that the token is for")
    if len(names) > MAX_AUDIENCES:
        raise InvalidAudienceError(f"an audience of {len(names)} names is too large; {MAX_AUDIENCES} are taken")
    return names


def read_audience(claims: Mapping[str, object]) -> tuple[str, ...]:
    """Read the claim `aud` (JWT-SVID section 3.2, RFC 7519 section 4.1.3): one text, or an array of them.

    Raises:
        InvalidTokenError: it is missing, empty, holds anything else, or more than 32 names.
    """
    value = claims.get("aud")
    names = value if isinstance(value, list) else [value]
    if not names or len(names) > MAX_AUDIENCES or not all(isinstance(name, str) and name for name in names):
        raise InvalidTokenError(
            TokenFault.CLAIM_INVALID,
            f"aud must be a text that is not empty, or an array of 1 to {MAX_AUDIENCES} of them",
        )
    return tuple(names)


def match_audience(found: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Return if the token is for one of the names that the validator goes by. They are compared as they are.

    Raises:
        InvalidTokenError: it is for others.
    """
    if set(found).isdisjoint(wanted):
        raise InvalidTokenError(
            TokenFault.AUDIENCE_MISMATCH,
            f"the token is for {', '.join(repr(name[:128]) for name in found[:4])} "
            f"and not for {', '.join(repr(name[:128]) for name in wanted[:4])}",
        )


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidAudienceError("the names in an audience must be texts that are not empty")
    return name
