"""Private keys that are somewhere else: `cryptography`'s own interfaces over a function that signs.

An HSM or a cloud's key service needs one function to be a key here: from bytes to a signature of the one scheme this
server signs with. Nothing else works with such a key: it cannot be exported, copied out or used to decrypt.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric

from icp_server.ca.keys import PrivateKey, scheme_of

Sign: TypeAlias = Callable[[bytes], bytes]
"""Signs bytes: ECDSA in DER over the hash of the curve's strength, or RSA PKCS #1 v1.5 over SHA-256."""


class RemoteKeyError(TypeError):
    """A remote key was asked for something else than a signature of its scheme."""


def _refuse(*_: object, **__: object) -> NoReturn:
    raise RemoteKeyError("the key does not leave the place where it is kept: it signs, and nothing else")


class RemoteECKey(ec.EllipticCurvePrivateKey):
    """An elliptic-curve key that is somewhere else."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign: Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    @property
    def curve(self) -> ec.EllipticCurve:
        """Its curve."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self._public_key.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public_key

    def sign(self, data: bytes, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # type: ignore[override]  # bytes alone, of all buffers
        """A signature in DER.

        Raises:
            RemoteKeyError: another scheme than the one of `scheme_of` is wanted.
            Unavailable: the place of the key cannot sign now.
        """
        _check_hash(self, signature_algorithm.algorithm)
        return self._sign(bytes(data))

    exchange = private_numbers = private_bytes = _refuse

    def __copy__(self) -> RemoteECKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> RemoteECKey:
        return copy.copy(self)

    def __reduce__(self) -> NoReturn:
        _refuse()


class RemoteRSAKey(rsa.RSAPrivateKey):
    """An RSA key that is somewhere else."""

    def __init__(self, public_key: rsa.RSAPublicKey, sign: Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self._public_key.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        """The public half."""
        return self._public_key

    def sign(
        self,
        data: bytes,
        padding: padding.AsymmetricPadding,
        algorithm: asymmetric.Prehashed | hashes.HashAlgorithm | asymmetric.NoDigestInfo,
    ) -> bytes:
        """A signature.

        Raises:
            RemoteKeyError: another scheme than the one of `scheme_of` is wanted.
            Unavailable: the place of the key cannot sign now.
        """
        if padding.name != "EMSA-PKCS1-v1_5":
            _refuse()
        _check_hash(self, algorithm)
        return self._sign(bytes(data))

    decrypt = private_numbers = private_bytes = _refuse

    def __copy__(self) -> RemoteRSAKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> RemoteRSAKey:
        return copy.copy(self)

    def __reduce__(self) -> NoReturn:
        _refuse()


def is_remote(key: PrivateKey) -> bool:
    """Whether signing with the key may wait for another machine, so that no event loop should."""
    return isinstance(key, RemoteECKey | RemoteRSAKey)


def _check_hash(key: PrivateKey, wanted: asymmetric.Prehashed | hashes.HashAlgorithm | asymmetric.NoDigestInfo) -> None:
    if type(wanted) is not type(scheme_of(key).hash):
        _refuse()
