"""Keys in one private file, in the form of SPIRE's disk key manager, so that its file can be taken over as it is."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from authsec_sdk.atomic_file import read_private, remove_leftovers, write_atomic
from authsec_sdk.errors import ConfigurationError
from icp_common.folders import check_private_folder
from icp_server.ca.keys import PrivateKey, generate_private_key
from icp_server.ca.keys_seal import Seal, WrongSealError
from icp_server.domain.errors import KeyStoreError
from icp_server.domain.key_type import KeyType

logger = logging.getLogger(__name__)


class DiskKeyManager:
    """A key manager whose file is replaced as a whole, and never seen half-written.

    Without a seal the keys are readable for whoever reads the file as its owner or as root. With one a copy of the
    file alone tells nothing; this process, while it runs, has the keys in its memory either way.
    """

    def __init__(self, path: Path, seal: Seal | None = None) -> None:
        """Read the file; there need not be one. One that is not sealed yet is sealed at once where there is a seal.

        Raises:
            KeyStoreError: it is malformed, not private, or cannot be read, or its folder is open to others; it is
                sealed with something else, or sealed and no seal was given.
        """
        self._path = path
        self._seal = seal
        self._was_sealed = False
        try:
            check_private_folder(path.parent)
            remove_leftovers(path)
            self._keys = _decode(self._opened(read_private(path)), path)
            if seal is not None and not self._was_sealed:
                self._write(self._keys)
                logger.warning("Sealed the keys, which were in the clear so far path=%s", path)
        except FileNotFoundError:
            self._keys = {}
        except (OSError, ConfigurationError) as error:
            raise KeyStoreError(f"cannot read the keys: {error}") from error

    def generate(self, name: str, key_type: KeyType) -> PrivateKey:
        """Make a key and keep it under a name; it is on disk when this returns.

        Raises:
            KeyStoreError: it cannot be written; the file and the keys in it are as before.
        """
        key = generate_private_key(key_type)
        keys = {**self._keys, name: key}
        self._write(keys)
        self._keys = keys
        return key

    def get(self, name: str) -> PrivateKey | None:
        """The key of this name."""
        return self._keys.get(name)

    def _write(self, keys: dict[str, PrivateKey]) -> None:
        encoded = _encode(keys)
        try:
            write_atomic(self._path, self._seal.closed(encoded) if self._seal else encoded, 0o600)
        except OSError as error:
            raise KeyStoreError(f"cannot write the keys to {self._path}: {error.strerror}") from error
        finally:
            encoded = b""

    def _opened(self, data: bytes) -> bytes:
        self._was_sealed = Seal.is_sealed(data)
        if not self._was_sealed:
            return data
        if self._seal is None:
            raise KeyStoreError(f"{self._path} is sealed: say with what (seal_file, seal_env or seal_credential)")
        try:
            return self._seal.opened(data)
        except WrongSealError:
            raise KeyStoreError(
                f"{self._path} was changed or cut short, or is sealed with another secret: restore file and secret"
            ) from None


def _encode(keys: dict[str, PrivateKey]) -> bytes:
    encoded = {
        name: base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode("ascii")
        for name, key in keys.items()
    }
    return json.dumps({"keys": encoded}, indent=4, sort_keys=True).encode("ascii")


def _decode(data: bytes, path: Path) -> dict[str, PrivateKey]:
    problem = ""
    try:
        document = json.loads(data)
        return {name: _key(text) for name, text in document["keys"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UnsupportedAlgorithm) as error:
        problem = type(error).__name__
    finally:
        document = None
        data = b""  # tracebacks show locals, and these are keys
    return _refuse(path, problem)


def _refuse(path: Path, problem: str) -> NoReturn:
    # Raised here and without a cause: the frames and arguments of the parser's error hold the file's content.
    raise KeyStoreError(f"{path} is not a key file ({problem}): restore it, or remove it to start with a new authority")


def _key(text: str) -> PrivateKey:
    try:
        key = load_der_private_key(base64.b64decode(text, validate=True), None)
    finally:
        text = ""
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("neither RSA nor elliptic-curve")
    return key
