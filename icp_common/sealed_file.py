"""State on disk that shows every change by another hand: encrypted and authenticated, bound to name, domain, version.

With its key beside it the state is tamper-evident, not secret: whoever can read the folder reads both. A systemd
credential as the key makes it secret as well. Not seen is a rollback: an old file with its old key is genuine.
"""

import os
import secrets
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authsec_sdk.atomic_file import read_private, remove_file, remove_leftovers, write_atomic
from authsec_sdk.errors import OperatorError
from authsec_sdk.spiffe import TrustDomain

_MAGIC = b"authsec sealed 1\n"
_KEY_SIZE = 32
_NONCE_SIZE = 12
_MAXIMUM_CREDENTIAL = 4096


class BrokenSealError(OperatorError):
    """The state was changed, cut short, moved from elsewhere, or its key is not the one it was sealed with."""


class SealKey:
    """A key to seal with; never shown. Make it by `SealKey.beside` or `SealKey.from_credential`."""

    __slots__ = ("_material",)

    def __init__(self, material: bytes) -> None:
        if len(material) < 16:
            raise ValueError("a key to seal with has at least 16 bytes")
        self._material = material

    @classmethod
    def beside(cls, path: str | os.PathLike[str]) -> Self:
        """The key in this file, made on first use, readable by us alone.

        Raises:
            ConfigurationError: the file is open to others or not ours.
            BrokenSealError: the file holds no key.
            OSError: it can neither be read nor made.
        """
        remove_leftovers(path)
        try:
            material = read_private(path, maximum=_KEY_SIZE)
        except FileNotFoundError:
            write_atomic(path, secrets.token_bytes(_KEY_SIZE), 0o600)
            material = read_private(path, maximum=_KEY_SIZE)
        if len(material) != _KEY_SIZE:
            del material  # reports of crashes print the locals of frames
            raise BrokenSealError(f"{os.fspath(path)} holds no key: restore it, or remove it with what it seals")
        return cls(material)

    @classmethod
    def from_credential(cls, name: str) -> Self | None:
        """The systemd credential of this name (`LoadCredentialEncrypted=`), or None if the service has none.

        Raises:
            BrokenSealError: it is shorter than 16 bytes or longer than 4096.
        """
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            return None
        try:
            with (Path(folder) / name).open("rb") as file:
                material = file.read(_MAXIMUM_CREDENTIAL + 1)
        except FileNotFoundError:
            return None
        if not 16 <= len(material) <= _MAXIMUM_CREDENTIAL:
            del material
            raise BrokenSealError(f"the credential {name} must have 16 to {_MAXIMUM_CREDENTIAL} bytes")
        return cls(material)

    def cipher(self, context: bytes) -> AESGCM:
        """The cipher for one purpose; two purposes never share a key."""
        return AESGCM(HKDF(SHA256(), _KEY_SIZE, salt=None, info=context).derive(self._material))

    def __repr__(self) -> str:
        return "SealKey(<not shown>)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a SealKey is not to be copied elsewhere")


class SealedFile:
    """One file of state, whole or not at all. `store`, `load` and `remove` touch the disk: call them in a thread.

    What holds: `load` gives only what `store` was given under the same key, name, trust domain and version.
    """

    def __init__(
        self, path: str | os.PathLike[str], key: SealKey, *, name: str, trust_domain: TrustDomain, version: int
    ) -> None:
        self.path = Path(path)
        self._bound = b"\0".join((_MAGIC, name.encode(), trust_domain.name.encode(), str(version).encode()))
        self._cipher = key.cipher(self._bound)
        remove_leftovers(self.path)

    def load(self) -> bytes | None:
        """The state, or None if none was ever stored.

        Raises:
            BrokenSealError: it is not what we stored here.
            ConfigurationError: the file is open to others or not ours.
        """
        try:
            sealed = read_private(self.path)
        except FileNotFoundError:
            return None
        nonce = sealed[len(_MAGIC) : len(_MAGIC) + _NONCE_SIZE]
        if not sealed.startswith(_MAGIC) or len(nonce) != _NONCE_SIZE:
            raise BrokenSealError(f"{self.path} is not a sealed file of this version")
        try:
            return self._cipher.decrypt(nonce, sealed[len(_MAGIC) + _NONCE_SIZE :], self._bound)
        except InvalidTag:
            raise BrokenSealError(
                f"{self.path} was changed, or belongs to another key, trust domain or version: "
                f"restore it with its key, or remove both and let this node attest again"
            ) from None

    def store(self, state: bytes) -> None:
        """Replace the state; after a crash it is the old or the new one, whole.

        Raises:
            OSError: nothing was changed.
        """
        nonce = secrets.token_bytes(_NONCE_SIZE)
        sealed = _MAGIC + nonce + self._cipher.encrypt(nonce, state, self._bound)
        del state
        write_atomic(self.path, sealed, 0o600)

    def remove(self) -> None:
        """Forget the state."""
        remove_file(self.path)
