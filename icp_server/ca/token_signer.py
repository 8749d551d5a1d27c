"""Signs tokens with the active token authorities; the rotator swaps them by one reference each."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import timedelta

from authsec_sdk.jose.jws import format_jws
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.spire.svids import IssuedToken
from icp_server.ca.composer import NO_COMPOSERS, Composers
from icp_server.ca.token_key import TokenKey
from icp_server.domain.errors import Unavailable
from icp_server.domain.svid_template import check_workload_id
from icp_server.domain.token_template import JWTRequest, WITRequest, jwt_claims, token_times, wit_claims
from icp_server.ports import Clock

_TOKEN_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What the operator chose for tokens."""

    jwt_svid_ttl: timedelta = timedelta(minutes=5)
    jwt_issuer: str = ""
    wit_svid_ttl: timedelta = timedelta(hours=1)
    wit_issuer: str = ""


class ActiveTokenKey:
    """The authority of one kind that signs now."""

    def __init__(self, words: str) -> None:
        self.words = words
        self._key: TokenKey | None = None

    @property
    def key(self) -> TokenKey:
        """The active authority.

        Raises:
            Unavailable: there is none yet.
        """
        if self._key is None:
            raise Unavailable(f"{self.words} key is not available for signing")
        return self._key

    def activate(self, key: TokenKey) -> None:
        """Sign with this authority from now on."""
        self._key = key


class SVIDTokenSigner:
    """Implements the `TokenSigner` port. Not ready until the rotator activated its authorities."""

    def __init__(
        self, trust_domain: TrustDomain, settings: TokenSettings, clock: Clock, composers: Composers = NO_COMPOSERS
    ) -> None:
        self._composers = composers
        self._trust_domain = trust_domain
        self._settings = settings
        self._clock = clock
        self.jwt = ActiveTokenKey("JWT")
        self.wit = ActiveTokenKey("WIT")

    async def sign_jwt(self, request: JWTRequest) -> IssuedToken:
        """Sign a JWT-SVID: header `alg`, `kid`, `typ` JWT.

        Raises:
            Internal: the ID may not be signed.
            Unavailable: there is no active JWT authority, or it has expired.
        """
        check_workload_id(request.spiffe_id, self._trust_domain)
        key = self.jwt.key
        ttl = timedelta(seconds=request.ttl) if request.ttl > 0 else self._settings.jwt_svid_ttl
        times = token_times(self._clock(), ttl, key.record.not_after, self.jwt.words)
        claims = jwt_claims(request, times, self._settings.jwt_issuer, lambda: secrets.token_urlsafe(_TOKEN_ID_BYTES))
        expires_at = times.expires_at
        if self._composers:
            claims = self._composers.workload_jwt_svid(request.spiffe_id, claims)
            expires_at = int(str(claims["exp"]))
        return IssuedToken(request.spiffe_id, await _signed(claims, "JWT", key), times.issued_at, expires_at)

    async def sign_wit(self, request: WITRequest) -> IssuedToken:
        """Sign a WIT-SVID: header `alg`, `kid`, `typ` wit+jwt.

        Raises:
            Internal: the ID may not be signed.
            Unavailable: there is no active WIT authority, or it has expired.
        """
        check_workload_id(request.spiffe_id, self._trust_domain)
        key = self.wit.key
        ttl = timedelta(seconds=request.ttl) if request.ttl > 0 else self._settings.wit_svid_ttl
        times = token_times(self._clock(), ttl, key.record.not_after, self.wit.words)
        claims = wit_claims(request, times, self._settings.wit_issuer)
        return IssuedToken(request.spiffe_id, await _signed(claims, "wit+jwt", key), times.issued_at, times.expires_at)


async def _signed(claims: dict[str, object], kind: str, key: TokenKey) -> str:
    """Sign here where that takes less than a millisecond; where the key is elsewhere, in a thread."""
    if key.remote:
        return await asyncio.to_thread(format_jws, claims, kind, key)
    return format_jws(claims, kind, key)
