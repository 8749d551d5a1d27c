"""Opens the key manager a configuration chose: one case each."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from authsec_sdk.atomic_file import read_private, write_atomic
from authsec_sdk.errors import ConfigurationError
from icp_common.folders import make_private_folder
from icp_server.ca.keys import KeyManager
from icp_server.ca.keys_disk import DiskKeyManager
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.keys_seal import Seal
from icp_server.ca.secrets import read_secret
from icp_server.domain.errors import KeyStoreError
from icp_server.domain.key_settings import DiskKeys, KeySettings, MemoryKeys, TokenKeys

logger = logging.getLogger(__name__)

_IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAXIMUM = 128


@contextmanager
def open_key_manager(settings: KeySettings) -> Iterator[KeyManager]:
    """The key manager, until the end of the block. Calls of it may wait: see `KeyManager`.

    Raises:
        KeyStoreError: the place of the keys cannot be used.
        ConfigurationError: it needs a package that is not installed, or a folder is open to others.
    """
    match settings:
        case MemoryKeys():
            logger.warning("Keys are kept in memory: after a restart agents need the new bundle to reach this server")
            yield MemoryKeyManager()
        case DiskKeys(path, seal):
            make_private_folder(path.parent)
            yield DiskKeyManager(path, Seal(read_secret(seal)) if seal else None)
        case TokenKeys():
            with _token(settings) as keys:
                yield keys


@contextmanager
def _token(settings: TokenKeys) -> Iterator[KeyManager]:
    try:
        from icp_server.ca.keys_pkcs11 import TokenKeyManager
    except ImportError as error:
        raise ConfigurationError('KeyManager "pkcs11" needs: pip install "authsec-sdk[pkcs11]"') from error
    keys = TokenKeyManager(settings, _identifier(settings))
    try:
        yield keys
    finally:
        keys.close()


def _identifier(settings: TokenKeys) -> str:
    if settings.identifier_file is None:
        return settings.identifier
    path = settings.identifier_file
    try:
        identifier = _kept_identifier(path)
    except OSError as error:
        raise KeyStoreError(f"cannot use the key identifier in {path}: {error.strerror}") from error
    if not _IDENTIFIER.fullmatch(identifier):
        raise KeyStoreError(f"{path} holds no key identifier: 1 to 64 letters, digits, '.', '_' and '-'")
    return identifier


def _kept_identifier(path: Path) -> str:
    try:
        return read_private(path, maximum=_MAXIMUM).decode("ascii", "replace").strip()
    except FileNotFoundError:
        make_private_folder(path.parent)
        write_atomic(path, secrets.token_hex(16).encode() + b"\n", 0o600)
        return read_private(path, maximum=_MAXIMUM).decode("ascii").strip()
