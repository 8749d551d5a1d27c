"""Attests with an X.509 certificate that this node was given: in files, or by another agent's Workload API."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.attestation import x509pop as wire
from authsec_sdk.spire.attestation.messages import NONCE_BYTES, AttestationMessageError
from authsec_sdk.workloadapi import WorkloadAPIClient
from icp_agent.files import read_bounded
from icp_agent.ports import MakeNodeAttestor, NodeAttestor, NodeParts

NAME: Final = wire.NAME
MAXIMUM_FILE_BYTES: Final = 256 * 1024
_FETCH_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class X509PoPAttestation:
    """One attempt: the chain, and a signature with its key over both nonces when the server asks."""

    payload: bytes
    key: wire.ProvingKey = field(repr=False)

    async def respond(self, challenge: bytes) -> bytes:
        """Sign the server's nonce together with one of ours.

        Raises:
            OperatorError: it is no challenge for a key of this kind.
        """
        try:
            return await asyncio.to_thread(wire.response, self.key, challenge, secrets.token_bytes(NONCE_BYTES))
        except AttestationMessageError as error:
            raise OperatorError(f"failed to calculate challenge response: {error}") from error


@dataclass(frozen=True, slots=True)
class X509PoPSettings:
    """What `plugin_data` says: files, or the `endpoint` of a Workload API. Called, it makes the attestor."""

    key_path: Path
    certificate_path: Path
    intermediates_path: Path | None = None
    endpoint: str = ""

    def __call__(self, parts: NodeParts) -> NodeAttestor:
        """Make the attestor."""
        del parts
        return X509PoPAttestor(self)


class X509PoPAttestor:
    """Reads key and certificates at each attempt, so that renewed ones need no restart."""

    name = NAME

    def __init__(self, settings: X509PoPSettings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[X509PoPAttestation]:
        """Take key and chain as they are now.

        Raises:
            ConfigurationError: a file is missing or wrong, or the key is not the certificate's.
            SpiffeError: the Workload API gives nothing.
        """
        if self._settings.endpoint:
            yield await _from_workload_api(self._settings.endpoint)
        else:
            yield await asyncio.to_thread(_from_files, self._settings)


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: one is missing or unknown.
    """
    with data:
        endpoint = data.text("spiffe_endpoint_socket") or ""
        key, certificate = data.text("private_key_path") or "", data.text("certificate_path") or ""
        intermediates = (data.text("intermediates_path") or "").strip()
    for name, path in (("private_key_path", key), ("certificate_path", certificate)):
        if not path and not endpoint:
            raise data.error(f"{name} is required")
    return X509PoPSettings(Path(key), Path(certificate), Path(intermediates) if intermediates else None, endpoint)


async def _from_workload_api(endpoint: str) -> X509PoPAttestation:
    async with asyncio.timeout(_FETCH_SECONDS), WorkloadAPIClient(endpoint) as client:
        svid = (await client.fetch_x509_context()).svid
    return _attestation(svid.certificates, svid.private_key)


def _from_files(settings: X509PoPSettings) -> X509PoPAttestation:
    chain = [*_certificates(settings.certificate_path)]
    key = _private_key(settings.key_path)
    if _public(key) != _public(chain[0]):
        raise ConfigurationError(
            f"unable to load keypair: the key in {str(settings.key_path)!r} is not that of the first certificate in "
            f"{str(settings.certificate_path)!r}"
        )
    if settings.intermediates_path is not None:
        chain += _certificates(settings.intermediates_path)
    return _attestation(chain, key)


def _attestation(chain: Sequence[x509.Certificate], key: object) -> X509PoPAttestation:
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"x509pop works with RSA and ECDSA keys, not with a {type(key).__name__}")
    return X509PoPAttestation(wire.payload([each.public_bytes(Encoding.DER) for each in chain]), key)


def _certificates(path: Path) -> list[x509.Certificate]:
    data = _content(path, "certificate")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigurationError(f"unable to load certificates from {str(path)!r}: {error}") from error


def _private_key(path: Path) -> object:
    data = _content(path, "private key")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError):
        key = None
    del data
    if key is None:  # raised here, where no frame holds the key
        raise ConfigurationError(f"{str(path)!r} holds no private key in PEM without a password")
    return key


def _content(path: Path, what: str) -> bytes:
    try:
        return read_bounded(path, MAXIMUM_FILE_BYTES, what)
    except FileNotFoundError as error:
        raise ConfigurationError(f"unable to read {what} {str(path)!r}: {error.strerror}") from error


def _public(holder: object) -> bytes:
    public_key = holder.public_key()  # type: ignore[attr-defined]  # a certificate or a private key
    return bytes(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
