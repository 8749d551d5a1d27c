"""Private keys as JSON Web Keys (RFC 7518 sections 6.2.2, 6.3.2): the form in which a WIT-SVID's key is handed out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from authsec_sdk.jose import base64url
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.jwk import InvalidJWKError, format_jwk, parse_jwk
from authsec_sdk.jose.keys import SigningKey

__all__ = ["format_private_jwk", "parse_private_jwk"]

_RSA_MEMBERS: Final = ("d", "p", "q", "dp", "dq", "qi")


def parse_private_jwk(members: Mapping[str, object]) -> SigningKey:
    """Read an RSA or EC private key whose public half, in the same JWK, is its own (`cryptography` compares them).

    Raises:
        InvalidTokenError: it is public, symmetric, of another kind, incomplete, or contradicts itself. Neither the text
            nor the traceback holds a value of the key.
    """
    key: SigningKey | None = None
    problem = "it is no RSA or EC private key"
    try:
        public = parse_jwk({name: value for name, value in members.items() if name not in _RSA_MEMBERS})
        if isinstance(public, ec.EllipticCurvePublicKey):
            key = ec.EllipticCurvePrivateNumbers(_number(members, "d"), public.public_numbers()).private_key()
        elif isinstance(public, rsa.RSAPublicKey):
            d, p, q, dp, dq, qi = (_number(members, name) for name in _RSA_MEMBERS)
            key = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public.public_numbers()).private_key()
    except (InvalidJWKError, InvalidTokenError) as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - cryptography's own; told without its frames, which hold the numbers
        problem = type(error).__name__
    finally:
        del members
    if key is None:
        raise InvalidTokenError(TokenFault.KEY_INVALID, f"the private key (JWK) is not valid: {problem}")
    return key


def format_private_jwk(key: SigningKey) -> dict[str, str]:
    """The members of a private key, which `parse_private_jwk` reads back. Whoever holds them holds the key."""
    members = format_jwk(key.public_key())
    numbers = key.private_numbers()
    if isinstance(numbers, ec.EllipticCurvePrivateNumbers):
        size = (key.key_size + 7) // 8
        return members | {"d": base64url.encode(numbers.private_value.to_bytes(size, "big"))}
    values = (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    encoded = (base64url.encode(value.to_bytes((value.bit_length() + 7) // 8, "big")) for value in values)
    return members | dict(zip(_RSA_MEMBERS, encoded, strict=True))


def _number(members: Mapping[str, object], name: str) -> int:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidTokenError(TokenFault.KEY_INVALID, f"the member {name} is missing")
    return int.from_bytes(base64url.decode(value, f"the member {name}"), "big")
