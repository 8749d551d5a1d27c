"""The seal of a key file: encrypted and authenticated under a passphrase, so that a copied disk tells no key."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from icp_common.sealed_file import SealKey

_MAGIC: Final = b"icp sealed keys 1\n"
_SALT_SIZE: Final = 16
_NONCE_SIZE: Final = 12
_COST: Final = 2**15
"""32 MiB and about a tenth of a second for each guess of a passphrase."""


class WrongSealError(Exception):
    """The data was changed, cut short, or sealed with something else."""


class Seal:
    """Seals and opens with one secret; never shown, never pickled."""

    __slots__ = ("_cipher", "_salt", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._salt = b""
        self._cipher: AESGCM | None = None

    @staticmethod
    def is_sealed(data: bytes) -> bool:
        """Whether the data looks sealed; by whom is another question."""
        return data.startswith(_MAGIC)

    def closed(self, data: bytes) -> bytes:
        """The data sealed."""
        if self._cipher is None:
            self._use(secrets.token_bytes(_SALT_SIZE))
        assert self._cipher is not None
        nonce = secrets.token_bytes(_NONCE_SIZE)
        return _MAGIC + self._salt + nonce + self._cipher.encrypt(nonce, data, _MAGIC + self._salt)

    def opened(self, sealed: bytes) -> bytes:
        """What was sealed.

        Raises:
            WrongSealError: it is not what was sealed with this secret.
        """
        at = len(_MAGIC)
        salt, nonce, rest = (
            sealed[at : at + _SALT_SIZE],
            sealed[at + _SALT_SIZE : at + _SALT_SIZE + _NONCE_SIZE],
            sealed[at + _SALT_SIZE + _NONCE_SIZE :],
        )
        if not self.is_sealed(sealed) or len(nonce) != _NONCE_SIZE:
            raise WrongSealError
        if salt != self._salt:
            self._use(salt)
        assert self._cipher is not None
        try:
            return self._cipher.decrypt(nonce, rest, _MAGIC + salt)
        except InvalidTag:
            raise WrongSealError from None

    def _use(self, salt: bytes) -> None:
        material = Scrypt(salt, 32, n=_COST, r=8, p=1).derive(self._secret)
        self._salt, self._cipher = salt, SealKey(material).cipher(_MAGIC)

    def __repr__(self) -> str:
        return "Seal(<not shown>)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Seal is not to be copied elsewhere")
