"""Which key makes which signatures: the nine algorithms of the SPIFFE tokens, and the `Signer` port for who mints.

An algorithm belongs to a key: an EC key has exactly one, by its curve; an RSA key has six. A header chooses among those
of the key it names and never which code runs with it (RFC 8725 section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from authsec_sdk.errors import CallerError
from authsec_sdk.jose.jwk import JWTPublicKey, is_signature_key, key_type

__all__ = [
    "ALGORITHMS",
    "MemorySigner",
    "SignatureAlgorithm",
    "Signer",
    "SigningKey",
    "algorithms_of",
    "check_signature",
    "check_signature_of_own",
]

SignatureAlgorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"]
SigningKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_BY_CURVE: Final[Mapping[str, SignatureAlgorithm]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_OF_RSA: Final[frozenset[SignatureAlgorithm]] = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

_NONE: Final[frozenset[SignatureAlgorithm]] = frozenset()
_OF_CURVE: Final = {curve: frozenset({algorithm}) for curve, algorithm in _BY_CURVE.items()}
_ECDSA: Final[Mapping[str, ec.ECDSA]] = {name: ec.ECDSA(_HASHES[name[2:]]) for name in _BY_CURVE.values()}
_PADDINGS: Final[Mapping[str, padding.AsymmetricPadding]] = {
    name: padding.PSS(padding.MGF1(_HASHES[name[2:]]), salt_length=_HASHES[name[2:]].digest_size)
    if name.startswith("PS")
    else padding.PKCS1v15()
    for name in sorted(_OF_RSA)
}

ALGORITHMS: Final[frozenset[SignatureAlgorithm]] = _OF_RSA | frozenset(_BY_CURVE.values())
"""JWT-SVID section 2.1 and WIT-SVID section 2.3: these and no others; case counts."""


def algorithms_of(key: object) -> frozenset[SignatureAlgorithm]:
    """Return the algorithms for a public key; none for kinds of keys that sign no SPIFFE token (Ed25519)."""
    if not is_signature_key(key):
        return _NONE
    known: Any = key
    kind = key_type(key)
    if kind == "EC":
        return _OF_CURVE[known.curve.name]
    return _OF_RSA if kind == "RSA" else _NONE


def check_signature(key: JWTPublicKey, algorithm: SignatureAlgorithm, signature: bytes, data: bytes) -> bool:
    """Say whether this is a signature of the key over the data, by an algorithm that is the key's own.

    ECDSA signatures are R and S of full size, one after the other (RFC 7518 section 3.4), PSS salts are as long as the
    hash (section 3.5).
    """
    return algorithm in algorithms_of(key) and check_signature_of_own(key, algorithm, signature, data)


def check_signature_of_own(key: Any, algorithm: SignatureAlgorithm, signature: bytes, data: bytes) -> bool:
    """As `check_signature`, for who has seen that the algorithm is the key's own. Any other answers nothing."""
    size = (key.key_size + 7) // 8
    try:
        if algorithm in _ECDSA:
            if len(signature) != 2 * size:
                return False
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), data, _ECDSA[algorithm])
        else:
            if len(signature) != size:
                return False
            digest = _HASHES[algorithm[2:]]
            key.verify(signature, data, _PADDINGS[algorithm], digest)
    except (InvalidSignature, ValueError):
        return False
    return True


class Signer(Protocol):
    """What can sign tokens: a key in memory, in a module, or far away."""

    @property
    def algorithm(self) -> SignatureAlgorithm:
        """The one algorithm this key is used with."""
        ...

    @property
    def key_id(self) -> str:
        """The `kid` under which its public key is published."""
        ...

    @property
    def public_key(self) -> JWTPublicKey:
        """What verifies its signatures."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign the data, and return the signature in the form that `check_signature` takes."""
        ...


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MemorySigner:
    """A `Signer` with its private key in this process.

    Raises:
        CallerError: the algorithm is not one for the key, or the key ID is empty.
    """

    private_key: SigningKey
    key_id: str
    algorithm: SignatureAlgorithm = "ES256"

    def __post_init__(self) -> None:
        if not self.key_id:
            raise CallerError("a key that signs tokens needs a key ID")
        if self.algorithm not in algorithms_of(self.public_key):
            raise CallerError(
                f"{self.algorithm} is no algorithm for this key: {sorted(algorithms_of(self.public_key))}"
            )

    def __repr__(self) -> str:
        return f"<MemorySigner {self.algorithm} {self.key_id!r}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a MemorySigner holds a private key and is not pickled")

    @property
    def public_key(self) -> JWTPublicKey:
        """What verifies its signatures."""
        return self.private_key.public_key()

    def sign(self, data: bytes) -> bytes:
        """Sign the data. ECDSA signatures are deterministic (RFC 6979): no weak random number can give the key away."""
        digest = _HASHES[self.algorithm[2:]]
        key = self.private_key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            size = (key.curve.key_size + 7) // 8
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest, deterministic_signing=True)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        return key.sign(data, _PADDINGS[self.algorithm], digest)
