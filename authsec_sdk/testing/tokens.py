"""The token side of a test CA: right JWT-SVIDs and WIT-SVIDs by default, and every wrong one on request."""

import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypedDict, Unpack

from cryptography.hazmat.primitives.asymmetric import ec

from authsec_sdk.jose import base64url
from authsec_sdk.jose.jwk import format_jwk
from authsec_sdk.jose.keys import MemorySigner, Signer, SigningKey, algorithms_of
from authsec_sdk.jose.private_jwk import format_private_jwk
from authsec_sdk.spiffe import JWTSVID, WITSVID, JWTBundle, SpiffeID, TrustDomain, WITBundle

__all__ = ["TestTokenCA", "TokenOptions", "resolve_id", "sign_anything"]

BACKDATE = timedelta(seconds=10)


class TokenOptions(TypedDict, total=False):
    """What tokens take beside whose they are; `ttl` is everyday, the rest makes wrong ones.

    `claims` and `header` are laid over what would be written, `without` names claims or header members to leave out,
    and `signer` signs instead of the CA's newest key.
    """

    ttl: timedelta
    claims: Mapping[str, object]
    header: Mapping[str, object]
    without: Collection[str]
    signer: Signer


class TestTokenCA:
    """The keys of one trust domain that sign JWT-SVIDs and WIT-SVIDs, as `TestCA.tokens` holds them. Not thread-safe.

    Nothing stops it from signing IDs of other trust domains: forgeries are what it is for.
    """

    __test__ = False  # pytest would take the name for a test class

    def __init__(
        self, trust_domain: TrustDomain | str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.trust_domain = trust_domain if isinstance(trust_domain, TrustDomain) else TrustDomain.parse(trust_domain)
        self._clock = clock
        self._numbers = count(1)
        self._jwt = [self._new_signer("jwt")]
        self._wit = [self._new_signer("wit")]

    def __repr__(self) -> str:
        """Show the trust domain and the key IDs."""
        return f"<TestTokenCA {self.trust_domain} {sorted({**self.jwt_bundle().authorities})}>"

    @property
    def jwt_signer(self) -> MemorySigner:
        """The key that signs JWT-SVIDs now."""
        return self._jwt[0]

    @property
    def wit_signer(self) -> MemorySigner:
        """The key that signs WIT-SVIDs now."""
        return self._wit[0]

    def jwt_bundle(self) -> JWTBundle:
        """Return every JWT authority not yet forgotten."""
        return JWTBundle(self.trust_domain, {signer.key_id: signer.public_key for signer in self._jwt})

    def wit_bundle(self) -> WITBundle:
        """Return every WIT authority not yet forgotten."""
        return WITBundle(self.trust_domain, {signer.key_id: signer.public_key for signer in self._wit})

    def rotate(self) -> None:
        """Sign with new keys from now on; the old ones stay in the bundles until `remove_old_keys`."""
        self._jwt.insert(0, self._new_signer("jwt"))
        self._wit.insert(0, self._new_signer("wit"))

    def remove_old_keys(self) -> None:
        """Leave only the keys that sign now in the bundles."""
        del self._jwt[1:], self._wit[1:]

    def jwt_token(self, path_or_id: str | SpiffeID, audience: Collection[str], **options: Unpack[TokenOptions]) -> str:
        """Write a JWT-SVID, as wrong as the options ask for."""
        claims = self._claims(path_or_id, options, timedelta(minutes=5)) | {"aud": list(audience)}
        return _write(claims, "JWT", options.get("signer", self.jwt_signer), options)

    def jwt_svid(
        self,
        path_or_id: str | SpiffeID,
        audience: Collection[str],
        *,
        hint: str = "",
        **options: Unpack[TokenOptions],
    ) -> JWTSVID:
        """Issue a JWT-SVID for a path of this trust domain or any SPIFFE ID at all.

        Raises:
            InvalidTokenError: the options ask for what the JWT-SVID standard forbids; `jwt_token` writes that.
        """
        return JWTSVID.unsafe_parse(self.jwt_token(path_or_id, audience, **options), hint=hint)

    def wit_token(
        self, path_or_id: str | SpiffeID, key: SigningKey | None = None, **options: Unpack[TokenOptions]
    ) -> tuple[str, str]:
        """Write a WIT-SVID, as wrong as the options ask for, and its private key as a JWK."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        algorithm = min(algorithms_of(key.public_key()))
        confirmation = {"jwk": {**format_jwk(key.public_key()), "alg": algorithm}}
        claims = self._claims(path_or_id, options, timedelta(hours=1)) | {"cnf": confirmation}
        token = _write(claims, "wit+jwt", options.get("signer", self.wit_signer), options)
        return token, json.dumps({**format_private_jwk(key), "alg": algorithm})

    def wit_svid(self, path_or_id: str | SpiffeID, *, hint: str = "", **options: Unpack[TokenOptions]) -> WITSVID:
        """Issue a WIT-SVID with a new key.

        Raises:
            InvalidTokenError: the options ask for what the WIT-SVID standard forbids; `wit_token` writes that.
        """
        token, key = self.wit_token(path_or_id, **options)
        return WITSVID.parse(token, key, hint=hint)

    def _claims(self, path_or_id: str | SpiffeID, options: TokenOptions, ttl: timedelta) -> dict[str, object]:
        now = self._clock()
        return {
            "sub": str(resolve_id(self.trust_domain, path_or_id)),
            "exp": int((now + options.get("ttl", ttl)).timestamp()),
            "iat": int(now.timestamp()),
            "nbf": int((now - BACKDATE).timestamp()),
        }

    def _new_signer(self, kind: str) -> MemorySigner:
        return MemorySigner(
            ec.generate_private_key(ec.SECP256R1()), f"{self.trust_domain}-{kind}-{next(self._numbers)}"
        )


def resolve_id(trust_domain: TrustDomain, path_or_id: str | SpiffeID) -> SpiffeID:
    """Read `/path` as a path of this trust domain, anything else as a whole SPIFFE ID."""
    if isinstance(path_or_id, SpiffeID):
        return path_or_id
    if path_or_id.startswith("/"):
        return SpiffeID.from_path(trust_domain, path_or_id)
    return SpiffeID.parse(path_or_id)


def sign_anything(header: Mapping[str, object] | bytes, payload: Mapping[str, object] | bytes, signer: Signer) -> str:
    """Sign any header and payload at all, even what is no JSON; the signature itself is right."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(base64url.encode(part) for part in parts)
    return f"{signed}.{base64url.encode(signer.sign(signed.encode('ascii')))}"


def _write(claims: Mapping[str, object], kind: str, signer: Signer, options: TokenOptions) -> str:
    header = {"alg": signer.algorithm, "kid": signer.key_id, "typ": kind, **options.get("header", {})}
    left_out = frozenset(options.get("without", ()))
    every = {**claims, **options.get("claims", {})}
    return sign_anything(
        {name: value for name, value in header.items() if name not in left_out},
        {name: value for name, value in every.items() if name not in left_out},
        signer,
    )
