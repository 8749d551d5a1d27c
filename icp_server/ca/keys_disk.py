"""Keys in one private file, in the form of SPIRE's disk key manager, so that its file can be taken over as it is."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from authsec_sdk.atomic_file import read_private, remove_leftovers, write_atomic
from authsec_sdk.errors import ConfigurationError
from icp_common.folders import check_private_folder
from icp_server.ca.keys import PrivateKey, generate_private_key
from icp_server.domain.errors import KeyStoreError
from icp_server.domain.key_type import KeyType


class DiskKeyManager:
    """A key manager whose file is replaced as a whole, and never seen half-written.

    Not protected: the keys are readable for whoever reads the file as its owner or as root.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; there need not be one.

        Raises:
            KeyStoreError: it is malformed, not private, or cannot be read, or its folder is open to others.
        """
        self._path = path
        try:
            check_private_folder(path.parent)
            remove_leftovers(path)
            self._keys = _decode(read_private(path), path)
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
        try:
            write_atomic(self._path, _encode(keys), 0o600)
        except OSError as error:
            raise KeyStoreError(f"cannot write the keys to {self._path}: {error.strerror}") from error
        self._keys = keys
        return key

    def get(self, name: str) -> PrivateKey | None:
        """The key of this name."""
        return self._keys.get(name)


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
