"""What the agent keeps on disk: its SVID with the key, and its trust domain's bundle. Nothing of any workload."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from authsec_sdk.errors import OperatorError, SpiffeError
from authsec_sdk.spiffe import X509SVID, TrustBundle, TrustDomain
from authsec_sdk.spiffe.bundle_json import format_bundle_document, parse_bundle_document
from icp_agent.keys import PrivateKey
from icp_common.folders import make_private_folder
from icp_common.sealed_file import BrokenSealError, SealedFile, SealKey

VERSION: Final = 1
SEAL_KEY: Final = "agent-seal.key"
CREDENTIAL: Final = "icp-agent-seal"
"""The systemd credential that makes the state secret instead of only tamper-evident."""

T = TypeVar("T")


class StorageError(OperatorError):
    """The agent's state on disk is damaged, is not this agent's, or is open to others."""


@dataclass(frozen=True, slots=True)
class StoredSVID:
    """The agent's own SVID, and whether the node may attest again for another."""

    svid: X509SVID
    reattestable: bool


class AgentStorage:
    """The files of one agent; every method touches the disk, so call them in a thread.

    SVID and key are one file: after a crash at any moment they fit each other. With `keys_directory` None neither is
    ever written. Every file is replaced whole, authenticated, and bound to its purpose and the trust domain.

    Raises, from every method but the two `forget_…`:
        StorageError: see there; it says what to do.
        OSError: the disk is full or broken.
    """

    def __init__(self, data_dir: Path, keys_directory: Path | None, trust_domain: TrustDomain) -> None:
        self._trust_domain = trust_domain
        self._bundle = self._file(data_dir, "agent-bundle")
        self._svid = self._file(keys_directory, "agent-svid") if keys_directory is not None else None
        self._pending = self._file(keys_directory, "agent-pending-key") if keys_directory is not None else None

    def _file(self, directory: Path, name: str) -> SealedFile:
        folder = make_private_folder(directory)
        key = SealKey.from_credential(CREDENTIAL) or SealKey.beside(folder / SEAL_KEY)
        return SealedFile(folder / f"{name}.sealed", key, name=name, trust_domain=self._trust_domain, version=VERSION)

    def load_bundle(self) -> TrustBundle | None:
        """The trust bundle the server gave last."""
        return _read(self._bundle, lambda data: parse_bundle_document(self._trust_domain, data))

    def save_bundle(self, bundle: TrustBundle) -> None:
        """Keep the bundle for the next start, where it beats the bootstrap bundle."""
        self._bundle.store(format_bundle_document(bundle))

    def forget_bundle(self) -> None:
        """Remove the bundle: the next one comes from the first trust again."""
        self._bundle.remove()

    def load_svid(self) -> StoredSVID | None:
        """The agent's SVID, expired or not."""
        return _read(self._svid, _stored_svid) if self._svid is not None else None

    def save_svid(self, stored: StoredSVID) -> None:
        """Keep SVID and key, if keys are kept at all."""
        if self._svid is None:
            return
        svid = stored.svid
        document = {
            "chain": [_text(der) for der in svid.chain_der()],
            "key": _text(svid.key_der()),
            "reattestable": stored.reattestable,
        }
        self._svid.store(json.dumps(document).encode())

    def forget_svid(self) -> None:
        """Remove SVID and key."""
        if self._svid is not None:
            self._svid.remove()

    def load_pending_key(self) -> PrivateKey | None:
        """The key of an attestation that was begun and whose outcome this agent never learned."""
        return _read(self._pending, _private_key) if self._pending is not None else None

    def save_pending_key(self, key: PrivateKey) -> None:
        """Keep the key before it is attested with."""
        if self._pending is not None:
            self._pending.store(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))

    def forget_pending_key(self) -> None:
        """Remove the key: it became the SVID's."""
        if self._pending is not None:
            self._pending.remove()


def _read(file: SealedFile, read: Callable[[bytes], T]) -> T | None:
    try:
        data = file.load()
    except BrokenSealError as error:
        raise StorageError(str(error)) from error
    if data is None:
        return None
    value = _attempt(read, data)
    del data  # tracebacks show locals, and this one may hold a key
    if value is None:
        raise StorageError(
            f"{file.path} holds no state of this agent: restore it, or remove it and let this node attest again"
        )
    return value


def _attempt(read: Callable[[bytes], T], data: bytes) -> T | None:
    # The error itself ends here: its frames hold the key's bytes.
    try:
        return read(data)
    except (SpiffeError, ValueError, TypeError, KeyError):
        return None


def _stored_svid(data: bytes) -> StoredSVID:
    document: dict[str, Any] = json.loads(data)
    chain = b"".join(base64.b64decode(text, validate=True) for text in document["chain"])
    svid = X509SVID.parse_der(chain, base64.b64decode(document["key"], validate=True))
    return StoredSVID(svid, document["reattestable"] is True)


def _private_key(data: bytes) -> PrivateKey:
    key = load_der_private_key(data, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("not a key of ours")
    return key


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
