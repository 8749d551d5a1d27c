"""The keys of authorities and the port of what keeps them: by name, never to leave this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from icp_server.ca import der
from icp_server.domain.key_type import KeyType

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_RSA_EXPONENT = 65537


class KeyManager(Protocol):
    """Keeps private keys by name. Calls may take seconds (RSA) and touch the disk: run them in a thread."""

    def generate(self, name: str, key_type: KeyType) -> PrivateKey:
        """Make a key and keep it under a name, in place of the one that was there; on return it is kept for good.

        Raises:
            KeyStoreError: it cannot be kept.
        """

    def get(self, name: str) -> PrivateKey | None:
        """The key of this name."""


def generate_private_key(key_type: KeyType) -> PrivateKey:
    """Make a private key."""
    match key_type:
        case KeyType.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.RSA_2048:
            return rsa.generate_private_key(_RSA_EXPONENT, 2048)
        case KeyType.RSA_4096:
            return rsa.generate_private_key(_RSA_EXPONENT, 4096)


def public_key_info(key: PrivateKey) -> bytes:
    """The SubjectPublicKeyInfo of a key's public half, DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """How a key signs certificates: its AlgorithmIdentifier (DER) and hash."""

    algorithm: bytes
    hash: hashes.HashAlgorithm


_ECDSA_SHA256 = SignatureScheme(der.sequence(bytes.fromhex("06082a8648ce3d040302")), hashes.SHA256())
_ECDSA_SHA384 = SignatureScheme(der.sequence(bytes.fromhex("06082a8648ce3d040303")), hashes.SHA384())
_RSA_SHA256 = SignatureScheme(der.sequence(bytes.fromhex("06092a864886f70d01010b0500")), hashes.SHA256())


def scheme_of(key: PrivateKey) -> SignatureScheme:
    """The scheme for a key: ECDSA with the hash of the curve's strength, or RSA PKCS #1 v1.5 with SHA-256."""
    if isinstance(key, rsa.RSAPrivateKey):
        return _RSA_SHA256
    return _ECDSA_SHA384 if isinstance(key.curve, ec.SECP384R1) else _ECDSA_SHA256


def signing_with(key: PrivateKey, scheme: SignatureScheme) -> Callable[[bytes], bytes]:
    """What signs bytes as certificates carry it; all that does not depend on the bytes is decided here, once."""
    if isinstance(key, rsa.RSAPrivateKey):
        return partial(key.sign, padding=padding.PKCS1v15(), algorithm=scheme.hash)
    return partial(key.sign, signature_algorithm=ec.ECDSA(scheme.hash))
