"""Which key makes which signatures: the nine algorithms of the SPIFFE tokens, and the `Signer` port for who mints.

An algorithm belongs to a key: an EC key has exactly one, by its curve; an RSA key has six. A header chooses among those
of the key it names and never which code runs with it (RFC 8725 section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from authsec_sdk.errors import CallerError
from authsec_sdk.jose.jwk import JWTPublicKey, is_signature_key

__all__ = [
    "ALGORITHMS",
    "MemorySigner",
    "SignatureAlgorithm",
    "Signer",
    "SigningKey",
    "algorithms_of",
    "check_signature",
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

ALGORITHMS: Final[frozenset[SignatureAlgorithm]] = _OF_RSA | frozenset(_BY_CURVE.values())
"""JWT-SVID section 2.1 and WIT-SVID section 2.3: these and no others; case counts."""


def algorithms_of(key: object) -> frozenset[SignatureAlgorithm]:
    """Return the algorithms for a public key; none for kinds of keys that sign no SPIFFE token (Ed25519)."""
    if not is_signature_key(key):
        return frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({_BY_CURVE[key.curve.name]})
    return _OF_RSA if isinstance(key, rsa.RSAPublicKey) else frozenset()


def check_signature(key: JWTPublicKey, algorithm: SignatureAlgorithm, signature: bytes, data: bytes) -> bool:
    """Say whether this is a signature of the key over the data, by an algorithm that is the key's own.

    ECDSA signatures are R and S of full size, one after the other (RFC 7518 section 3.4), PSS salts are as long as the
    hash (section 3.5).
    """
    if algorithm not in algorithms_of(key):
        return False
    digest = _HASHES[algorithm[2:]]
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            size = (key.curve.key_size + 7) // 8
            if len(signature) != 2 * size:
                return False
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
        elif isinstance(key, rsa.RSAPublicKey):
            if len(signature) != (key.key_size + 7) // 8:
                return False
            key.verify(signature, data, _padding(algorithm, digest), digest)
        else:
            return False
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
        return key.sign(data, _padding(self.algorithm, digest), digest)


def _padding(algorithm: str, digest: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.startswith("PS"):
        return padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
    return padding.PKCS1v15()
