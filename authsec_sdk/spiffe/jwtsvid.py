"""JWT-SVIDs: a workload's identity as a bearer token for one audience (JWT-SVID standard), read by every rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from authsec_sdk.jose.fault import InvalidTokenError
from authsec_sdk.jose.jws import HeaderRules, UnverifiedJWS, parse_jws
from authsec_sdk.spiffe.audience import Audience, check_audience, match_audience, read_audience
from authsec_sdk.spiffe.bundle import BundleSet, JWTBundle
from authsec_sdk.spiffe.ids import SpiffeID
from authsec_sdk.spiffe.token_claims import (
    DEFAULT_LEEWAY,
    Lifetime,
    at,
    check_times,
    frozen,
    read_lifetime,
    read_subject,
    verify_with,
)

__all__ = ["JWTSVID"]

_RULES: Final = HeaderRules(types=frozenset({None, "JWT", "JOSE"}))
_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class JWTSVID:
    """A JWT-SVID that was validated, or that came from our own agent. Equal if token and hint are.

    Made by `parse_and_validate` and `unsafe_parse` alone. `claims` holds all claims, unknown ones included, and cannot
    be changed. The token is a credential: whoever has it is taken for the workload. It is in no representation, is not
    pickled, and is to be sent over TLS only, as `Authorization: Bearer …` (section 5.2).
    """

    token: str
    hint: str
    id: SpiffeID
    audience: tuple[str, ...]
    expires_at: datetime
    issued_at: datetime | None
    key_id: str | None
    claims: Mapping[str, object]
    _made_here: object

    def __post_init__(self) -> None:
        if self._made_here is not _MADE_HERE:
            raise TypeError("a JWTSVID is made by JWTSVID.parse_and_validate")

    @classmethod
    def parse_and_validate(
        cls,
        token: str,
        bundles: BundleSet[JWTBundle],
        audience: Audience,
        *,
        now: datetime,
        leeway: timedelta = DEFAULT_LEEWAY,
    ) -> JWTSVID:
        """Return what a token says if all of it is right: form, header, claims, signature, time and audience.

        The key is looked up by `kid` in the bundle of the trust domain that `sub` names, and in no other. A token
        without `kid`, which is legal, is tried with each key there that fits, up to 16. `audience` are the names this
        validator goes by; the token must be for one of them. `leeway` is for clocks that differ: 30 seconds by default.
        Not checked: whether the token was used before. It is a bearer token, and may be until it expires.

        Raises:
            InvalidTokenError: a rule of the JWT-SVID standard is broken; `fault` says which kind.
            NoBundleForTrustDomainError: there is no bundle of the trust domain.
            InvalidAudienceError: `audience` is a single `str`, or empty, or holds what is no name.
            CallerError: `now` has no time zone, or the leeway is out of its range.
        """
        try:
            wanted = check_audience(audience)
            jws, svid, lifetime = _read(token, "")
        finally:
            del token  # tracebacks show locals
        domain = svid.id.trust_domain
        verify_with(jws, bundles.require(domain).authorities, domain)
        check_times(lifetime, now, leeway, issued_counts=True)
        match_audience(svid.audience, wanted)
        return svid

    @classmethod
    def unsafe_parse(cls, token: str, *, hint: str = "") -> JWTSVID:
        """Return what a token says of itself. Nothing shows that it is true: no signature, time or audience is checked.

        For tokens from our own agent, and to look at one. Never decide anything about a peer by it.

        Raises:
            InvalidTokenError: form, header or claims break a rule of the JWT-SVID standard.
        """
        try:
            return _read(token, hint)[1]
        finally:
            del token

    def is_expired(self, now: datetime) -> bool:
        """Say whether its time is over, without any leeway: of one's own token, which others will judge."""
        return now >= self.expires_at

    def limited_to(self, names: frozenset[str]) -> JWTSVID:
        """Return the same SVID with the claims of these names alone: those that somebody vouches for."""
        kept = {name: value for name, value in self.claims.items() if name in names}
        return replace(self, claims=MappingProxyType(kept))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JWTSVID):
            return NotImplemented
        return (self.token, self.hint) == (other.token, other.hint)

    def __hash__(self) -> int:
        return hash((self.token, self.hint))

    def __repr__(self) -> str:
        return f"<JWTSVID {self.id} audience={list(self.audience)} expires_at={self.expires_at.isoformat()}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a JWTSVID is a credential and is not pickled; send its token where it is meant to go")


def _read(token: str, hint: str) -> tuple[UnverifiedJWS, JWTSVID, Lifetime]:
    try:
        jws = parse_jws(token, _RULES)
        claims = jws.unverified_claims()
        spiffe_id = read_subject(claims)
        lifetime = read_lifetime(claims)
        svid = JWTSVID(
            token=token,
            hint=hint,
            id=spiffe_id,
            audience=read_audience(claims),
            expires_at=at(lifetime.expires),
            issued_at=None if lifetime.issued is None else at(lifetime.issued),
            key_id=jws.key_id,
            claims=frozen(claims),
            _made_here=_MADE_HERE,
        )
    except InvalidTokenError as error:
        fault, message = error.fault, error.message
    else:
        return jws, svid, lifetime
    finally:
        del token
    raise InvalidTokenError(fault, f"this is no JWT-SVID: {message}")
