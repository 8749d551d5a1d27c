"""Public keys for signatures as JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037 section 2)."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypeGuard

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.errors import OperatorError

__all__ = [
    "InvalidJWKError",
    "JWTPublicKey",
    "UnknownKeyTypeError",
    "check_key_type",
    "format_jwk",
    "is_signature_key",
    "key_type",
    "parse_jwk",
]

JWTPublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_CURVE_NAMES: Final = {curve.name: name for name, curve in _CURVES.items()}
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_MIN_RSA_BITS: Final = 2048  # RFC 7518 sections 3.3 and 3.5
_MAX_RSA_BITS: Final = 16384  # a larger modulus costs a verifier seconds
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class InvalidJWKError(OperatorError, ValueError):
    """A JSON Web Key is malformed, or holds a key that must not verify signatures."""


class UnknownKeyTypeError(InvalidJWKError):
    """A JSON Web Key has a type or curve we do not know. SPIFFE bundles pass over such keys."""


def is_signature_key(key: object) -> TypeGuard[JWTPublicKey]:
    """Say whether this is a public key of a kind we verify signatures with: RSA, P-256/384/521, Ed25519."""
    kind, known = key_type(key), _known(key)
    if kind == "EC":
        return known.curve.name in _CURVE_NAMES
    if kind == "RSA":
        return bool(_MIN_RSA_BITS <= known.key_size <= _MAX_RSA_BITS)
    return kind == "OKP"


def key_type(key: object) -> Literal["EC", "RSA", "OKP"] | None:
    """Return the `kty` of a public key of a kind we know, whatever its size or curve."""
    return _key_type(type(key))  # type: ignore[arg-type]  # mypy takes the __hash__ of what the type makes for its own


@functools.lru_cache(maxsize=64)  # abstract base classes are slow to ask, and this is asked for each token
def _key_type(kind: type) -> Literal["EC", "RSA", "OKP"] | None:
    if issubclass(kind, ec.EllipticCurvePublicKey):
        return "EC"
    if issubclass(kind, rsa.RSAPublicKey):
        return "RSA"
    return "OKP" if issubclass(kind, ed25519.Ed25519PublicKey) else None


def _known(key: object) -> Any:
    return key


def check_key_type(members: Mapping[str, object]) -> str:
    """Return the member `kty` if it is a type of public keys that we know.

    Raises:
        UnknownKeyTypeError: it is another text.
        InvalidJWKError: it is missing or no text, or the type is symmetric.
    """
    kind = _text(members, "kty")
    if kind == "oct":
        raise InvalidJWKError("a symmetric key (kty oct) cannot be an authority: whoever verifies could sign")
    if kind not in _READERS:
        raise UnknownKeyTypeError("the key type (kty) is not known")
    return kind


def parse_jwk(members: Mapping[str, object]) -> JWTPublicKey:
    """Read the public key of a JWK. Members which say nothing of the key itself (`use`, `kid`, `alg`) are not read.

    Raises:
        UnknownKeyTypeError: `kty` or `crv` is a text we do not know.
        InvalidJWKError: a member is missing or malformed, the key is symmetric or private, too short, or not on its
            curve. The text never quotes a member's value.
    """
    kind = check_key_type(members)
    private = sorted(_PRIVATE_MEMBERS & members.keys())
    if private:
        raise InvalidJWKError(f"the key holds private members ({', '.join(private)}); take it out of service")
    try:
        key = _READERS[kind](members)
    except InvalidJWKError:
        raise
    except Exception as error:
        raise InvalidJWKError(f"the {kind} key is not valid ({type(error).__name__})") from error
    if not is_signature_key(key):
        raise InvalidJWKError(f"an RSA key must have {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits")
    return key


def format_jwk(key: JWTPublicKey) -> dict[str, str]:
    """The members `kty`, and `n`, `e` or `crv`, `x`, `y`, of a public key.

    Raises:
        InvalidJWKError: the key is none that `is_signature_key` accepts.
    """
    if not is_signature_key(key):
        raise InvalidJWKError("only RSA (2048 bits and more), P-256/384/521 and Ed25519 keys have a JWK here")
    if isinstance(key, rsa.RSAPublicKey):
        rsa_numbers = key.public_numbers()
        return {"kty": "RSA", "n": _encode_int(rsa_numbers.n), "e": _encode_int(rsa_numbers.e)}
    if isinstance(key, ec.EllipticCurvePublicKey):
        ec_numbers = key.public_numbers()
        size = (key.curve.key_size + 7) // 8
        return {
            "kty": "EC",
            "crv": _CURVE_NAMES[key.curve.name],
            "x": _encode(ec_numbers.x.to_bytes(size, "big")),
            "y": _encode(ec_numbers.y.to_bytes(size, "big")),
        }
    return {"kty": "OKP", "crv": "Ed25519", "x": _encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw))}


def _read_rsa(members: Mapping[str, object]) -> rsa.RSAPublicKey:
    modulus, exponent = _bytes(members, "n"), _bytes(members, "e")
    if len(modulus) * 8 > _MAX_RSA_BITS + 8:
        raise InvalidJWKError(f"an RSA key must have at most {_MAX_RSA_BITS} bits")
    return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()


def _read_ec(members: Mapping[str, object]) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(_text(members, "crv"))
    if curve is None:
        raise UnknownKeyTypeError("the curve (crv) is not known")
    x, y = _bytes(members, "x"), _bytes(members, "y")
    size = (curve.key_size + 7) // 8
    if len(x) != size or len(y) != size:  # RFC 7518 section 6.2.1.2: full size, leading zeros kept
        raise InvalidJWKError(f"the coordinates of a {curve.name} key must have {size} bytes each")
    return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()


def _read_okp(members: Mapping[str, object]) -> ed25519.Ed25519PublicKey:
    if _text(members, "crv") != "Ed25519":
        raise UnknownKeyTypeError("the curve (crv) is not known")
    return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(members, "x"))


_READERS: Final = {"RSA": _read_rsa, "EC": _read_ec, "OKP": _read_okp}


def _text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidJWKError(f"the member {name} must be a text that is not empty")
    return value


def _bytes(members: Mapping[str, object], name: str) -> bytes:
    text = _text(members, name)
    if not _BASE64URL.fullmatch(text):
        raise InvalidJWKError(f"the member {name} must be base64url without padding")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise InvalidJWKError(f"the member {name} must be base64url without padding") from error


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _encode_int(number: int) -> str:
    return _encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))
