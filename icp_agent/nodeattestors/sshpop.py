"""Attests with the SSH host certificate of this node, and a signature with the host's key."""

import asyncio
import base64
import binascii
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.attestation import sshpop as wire
from authsec_sdk.spire.attestation.messages import NONCE_BYTES, AttestationMessageError
from icp_agent.files import read_bounded
from icp_agent.ports import MakeNodeAttestor, NodeAttestor, NodeParts

NAME: Final = wire.NAME
DEFAULT_KEY: Final = Path("/etc/ssh/ssh_host_rsa_key")
DEFAULT_CERTIFICATE: Final = Path("/etc/ssh/ssh_host_rsa_key-cert.pub")
MAXIMUM_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class SSHPoPAttestation:
    """One attempt: the certificate, and a signature with its key over both nonces when the server asks."""

    payload: bytes
    key: wire.HostKey = field(repr=False)

    async def respond(self, challenge: bytes) -> bytes:
        """Sign the server's nonce together with one of ours.

        Raises:
            OperatorError: it is no such challenge.
        """
        try:
            return await asyncio.to_thread(wire.response, self.key, challenge, secrets.token_bytes(NONCE_BYTES))
        except AttestationMessageError as error:
            raise OperatorError(f"failed to answer the challenge: {error}") from error


@dataclass(frozen=True, slots=True)
class SSHPoPSettings:
    """What `plugin_data` says; called, it makes the attestor."""

    key_path: Path = DEFAULT_KEY
    certificate_path: Path = DEFAULT_CERTIFICATE

    def __call__(self, parts: NodeParts) -> NodeAttestor:
        """Make the attestor."""
        del parts
        return SSHPoPAttestor(self)


class SSHPoPAttestor:
    """Reads key and certificate at each attempt, so that renewed ones need no restart."""

    name = NAME

    def __init__(self, settings: SSHPoPSettings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SSHPoPAttestation]:
        """Take key and certificate as they are now.

        Raises:
            ConfigurationError: a file is missing or wrong, or the key is not the certificate's.
        """
        yield await asyncio.to_thread(_attestation, self._settings)


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: a key is unknown.
    """
    with data:
        return SSHPoPSettings(
            Path(data.text("host_key_path") or DEFAULT_KEY), Path(data.text("host_cert_path") or DEFAULT_CERTIFICATE)
        )


def _attestation(settings: SSHPoPSettings) -> SSHPoPAttestation:
    words = _content(settings.certificate_path, "host certificate").split()
    try:
        blob = base64.b64decode(words[1], validate=True)
        certificate = wire.parse_certificate(blob)
    except (IndexError, binascii.Error, AttestationMessageError) as error:
        raise ConfigurationError(f"{str(settings.certificate_path)!r} holds no SSH certificate: {error}") from error
    key = _private_key(settings.key_path)
    if _public(key.public_key()) != _public(certificate.public_key()):
        raise ConfigurationError(
            f"the key in {str(settings.key_path)!r} is not that of the certificate in "
            f"{str(settings.certificate_path)!r}"
        )
    return SSHPoPAttestation(wire.payload(blob), key)


def _private_key(path: Path) -> wire.HostKey:
    data = _content(path, "host key")
    key: object = None
    for load in (load_ssh_private_key, load_pem_private_key):
        try:
            key = load(data, None)
            break
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
    del data
    # Raised here, where no frame holds the key.
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ConfigurationError(f"{str(path)!r} holds no RSA, ECDSA or Ed25519 key without a password")
    return key


def _content(path: Path, what: str) -> bytes:
    try:
        return read_bounded(path, MAXIMUM_FILE_BYTES, what)
    except FileNotFoundError as error:
        raise ConfigurationError(f"failed to read {what} file {str(path)!r}: {error.strerror}") from error


def _public(key: object) -> bytes:
    public_bytes = key.public_bytes  # type: ignore[attr-defined]  # a public key of any kind
    return bytes(public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
