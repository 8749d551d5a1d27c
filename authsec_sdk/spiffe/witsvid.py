"""WIT-SVIDs: a workload's identity as a token bound to a key (WIT-SVID standard, incubating), read by every rule.

Not a bearer token: whoever presents one has to prove that the key is theirs, each time (section 5). So there are two
values: a `WITSVID` is our own, with its private key; an `UnprovenWIT` is somebody else's, and still lacks that proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeGuard, cast

from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.json_object import load_object
from authsec_sdk.jose.jwk import InvalidJWKError, JWTPublicKey, parse_jwk
from authsec_sdk.jose.jws import HeaderRules, UnverifiedJWS, parse_jws
from authsec_sdk.jose.keys import ALGORITHMS, SignatureAlgorithm, SigningKey, algorithms_of
from authsec_sdk.jose.private_jwk import parse_private_jwk
from authsec_sdk.spiffe.bundle import BundleSet, WITBundle
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

__all__ = ["WITSVID", "UnprovenWIT"]

_RULES: Final = HeaderRules(types=frozenset({"wit+jwt"}), key_id_required=True, plain=False)
_MAX_KEY_BYTES: Final = 64 * 1024
_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class UnprovenWIT:
    """What the issuer said: that `confirmation_key` is the key of the workload `id`. Who sent the token, nothing says.

    Made by `parse_and_validate` alone. `confirmation_algorithm` is the one algorithm that the proof may be made with.
    `claims` holds all claims, unknown ones included, and cannot be changed. `jti`, where given, names the token in
    logs; it must not be used to find replays, for an agent may hand one token to several instances.
    """

    token: str
    id: SpiffeID
    key_id: str
    confirmation_key: JWTPublicKey
    confirmation_algorithm: SignatureAlgorithm
    expires_at: datetime
    claims: Mapping[str, object]
    _made_here: object = field(repr=False)

    def __post_init__(self) -> None:
        if self._made_here is not _MADE_HERE:
            raise TypeError("an UnprovenWIT is made by UnprovenWIT.parse_and_validate")

    @classmethod
    def parse_and_validate(
        cls, token: str, bundles: BundleSet[WITBundle], *, now: datetime, leeway: timedelta = DEFAULT_LEEWAY
    ) -> UnprovenWIT:
        """Return what a token says if all of it is right: form, header, claims, signature and time.

        The key is that which `kid` names among the WIT authorities of the trust domain of `sub`. `iat` is not compared
        with the time, as the standard demands (section 3.6).
        Not checked: that the sender has the key. Authenticate nobody by this alone.

        Raises:
            InvalidTokenError: a rule of the WIT-SVID standard is broken; `fault` says which kind.
            NoBundleForTrustDomainError: there is no bundle of the trust domain.
            CallerError: `now` has no time zone, or the leeway is out of its range.
        """
        try:
            jws, wit, lifetime = _read(token)
        finally:
            del token  # tracebacks show locals
        domain = wit.id.trust_domain
        verify_with(jws, bundles.require(domain).authorities, domain)
        check_times(lifetime, now, leeway, issued_counts=False)
        return wit

    def __repr__(self) -> str:
        return f"<UnprovenWIT {self.id} expires_at={self.expires_at.isoformat()}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an UnprovenWIT is not pickled: where it arrives, nothing would show that it was validated")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class WITSVID:
    """Our own WIT-SVID with the key it is bound to. Equal if token and hint are.

    Made by `parse` alone. The key is in no representation and the value is not pickled. Not to be sent without a proof
    of possession, and never in the header `Authorization` (section 5).
    """

    token: str
    hint: str
    id: SpiffeID
    key_id: str
    algorithm: SignatureAlgorithm
    """The algorithm of the key, for proofs (`cnf.jwk.alg`)."""
    private_key: SigningKey
    expires_at: datetime
    claims: Mapping[str, object]
    _made_here: object

    def __post_init__(self) -> None:
        if self._made_here is not _MADE_HERE:
            raise TypeError("a WITSVID is made by WITSVID.parse")

    @classmethod
    def parse(cls, token: str, private_key: str | bytes, *, hint: str = "") -> WITSVID:
        """Read a token and its private key (a JWK), as the Workload API hands them out.

        What holds: every rule for header and claims, and that the key is the one in `cnf`.
        Not checked: signature and time. It comes from our own agent, and others will judge it.

        Raises:
            InvalidTokenError: a rule is broken, or the key is malformed or another one. The text and the traceback hold
                neither token nor key.
        """
        fault, message = TokenFault.KEY_INVALID, "this is no WIT-SVID with its key"
        key: SigningKey | None = None
        try:
            _, wit, _ = _read(token)
            key = parse_private_jwk(_load_key(private_key))
            if key.public_key() == wit.confirmation_key:
                return cls(
                    token=token,
                    hint=hint,
                    id=wit.id,
                    key_id=wit.key_id,
                    algorithm=wit.confirmation_algorithm,
                    private_key=key,
                    expires_at=wit.expires_at,
                    claims=wit.claims,
                    _made_here=_MADE_HERE,
                )
            message = "the private key beside the WIT-SVID is not the one in its cnf"
        except InvalidTokenError as error:
            fault, message = error.fault, error.message
        finally:
            del token, private_key, key  # tracebacks show locals
        raise InvalidTokenError(fault, message)

    def is_expired(self, now: datetime) -> bool:
        """Say whether its time is over, without any leeway."""
        return now >= self.expires_at

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WITSVID):
            return NotImplemented
        return (self.token, self.hint) == (other.token, other.hint)

    def __hash__(self) -> int:
        return hash((self.token, self.hint))

    def __repr__(self) -> str:
        return f"<WITSVID {self.id} expires_at={self.expires_at.isoformat()}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a WITSVID holds a private key and is not pickled")


def _read(token: str) -> tuple[UnverifiedJWS, UnprovenWIT, Lifetime]:
    try:
        jws = parse_jws(token, _RULES)
        claims = jws.unverified_claims()
        if "aud" in claims:
            raise InvalidTokenError(
                TokenFault.CLAIM_INVALID, "aud must not be there: what is for somebody is the proof"
            )
        spiffe_id = read_subject(claims)
        lifetime = read_lifetime(claims)
        key, algorithm = _read_confirmation(claims)
        wit = UnprovenWIT(
            token=token,
            id=spiffe_id,
            key_id=cast("str", jws.key_id),  # the rules demand it
            confirmation_key=key,
            confirmation_algorithm=algorithm,
            expires_at=at(lifetime.expires),
            claims=frozen(claims),
            _made_here=_MADE_HERE,
        )
    except InvalidTokenError as error:
        fault, message = error.fault, error.message
    else:
        return jws, wit, lifetime
    finally:
        del token
    raise InvalidTokenError(fault, f"this is no WIT-SVID: {message}")


def _read_confirmation(claims: Mapping[str, object]) -> tuple[JWTPublicKey, SignatureAlgorithm]:
    """WIT-SVID section 3.2: the public key as `cnf.jwk`, with the algorithm of its proofs in it."""
    confirmation = claims.get("cnf")
    members = confirmation.get("jwk") if isinstance(confirmation, dict) else None
    if not isinstance(members, dict):
        raise InvalidTokenError(TokenFault.CLAIM_INVALID, "cnf must be there and hold the workload's key as jwk")
    algorithm = members.get("alg")
    if not _is_algorithm(algorithm):
        raise InvalidTokenError(
            TokenFault.CLAIM_INVALID, f"cnf.jwk.alg must be there and be one of {', '.join(sorted(ALGORITHMS))}"
        )
    try:
        key = parse_jwk(members)
    except InvalidJWKError as error:
        raise InvalidTokenError(TokenFault.KEY_INVALID, f"the key in cnf is not valid: {error}") from None
    if algorithm not in algorithms_of(key):
        raise InvalidTokenError(TokenFault.KEY_INVALID, f"cnf.jwk.alg is {algorithm}, which is not for the key there")
    return key, algorithm


def _load_key(text: str | bytes) -> dict[str, object]:
    data = text.encode() if isinstance(text, str) else text
    try:
        if len(data) > _MAX_KEY_BYTES:
            raise InvalidTokenError(TokenFault.TOO_LARGE, f"the private key has more than {_MAX_KEY_BYTES} bytes")
        return load_object(data, "the private key")
    finally:
        del text, data


def _is_algorithm(value: object) -> TypeGuard[SignatureAlgorithm]:
    return isinstance(value, str) and value in ALGORITHMS
