"""The key a WIT-SVID is bound to: read and judged as the WIT-SVID standard (section 3.3) and SPIRE's words have it."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from authsec_sdk.jose.jwk import JWTPublicKey, format_jwk, is_signature_key
from authsec_sdk.jose.keys import algorithms_of
from icp_server.domain.errors import InvalidArgument

MAX_PUBLIC_KEY_BYTES = 4096
"""An RSA key of 16384 bits has some 2100."""


@dataclass(frozen=True, slots=True)
class ConfirmationKey:
    """A public key and the one algorithm that proofs with it are made with."""

    public_key: JWTPublicKey
    algorithm: str

    def jwk(self) -> dict[str, str]:
        """As `cnf.jwk` carries it: with its algorithm."""
        return {**format_jwk(self.public_key), "alg": self.algorithm}


def read_confirmation_key(public_key: bytes, algorithm: str, words: str) -> ConfirmationKey:
    """Read a SubjectPublicKeyInfo (DER); `words` begin the refusal of one that is none.

    Raises:
        InvalidArgument: it does not parse, or the algorithm is none of the nine that is for the key.
    """
    key = read_public_key(public_key, words)
    if algorithm not in algorithms_of(key):
        raise InvalidArgument(
            f"invalid signing algorithm or key type: unsupported signing algorithm for {_kind(key)} key: {algorithm}"
        )
    return ConfirmationKey(key, algorithm)


def read_public_key(data: bytes, words: str) -> JWTPublicKey:
    """Read a SubjectPublicKeyInfo (DER) of a key for signatures.

    Raises:
        InvalidArgument: it is none; the text begins with `words`.
    """
    if len(data) > MAX_PUBLIC_KEY_BYTES:
        raise InvalidArgument(f"{words}: longer than {MAX_PUBLIC_KEY_BYTES} bytes")
    try:
        key = load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(f"{words}: {error}") from error
    if not is_signature_key(key):
        raise InvalidArgument(f"{words}: no key of a kind that signs tokens")
    return key


def _kind(key: JWTPublicKey) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ec-p{key.curve.key_size}"
    return "ed25519"
