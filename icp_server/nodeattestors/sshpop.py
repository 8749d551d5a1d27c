"""Attestation by an SSH host certificate of a known authority, and a signature with the host's key."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_key,
)

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.attestation import sshpop as wire
from authsec_sdk.spire.attestation.messages import NONCE_BYTES, AttestationMessageError
from icp_server.domain.errors import Internal
from icp_server.nodeattestors.agent_path import agent_id, read_template
from icp_server.nodeattestors.path_template import Known, PathTemplate, Value
from icp_server.ports import AttestationRequest, Clock, MakeNodeAttestor, NodeAttestation, NodeAttestor, Store

NAME: Final = wire.NAME
MAX_RSA_KEY_SIZE: Final = 8192
MAXIMUM_FILE_BYTES: Final = 1024 * 1024
_FOREVER: Final = (1 << 64) - 1
_KNOWN: Final = Known(frozenset({"PluginName", "Fingerprint", "Hostname", "KeyId", "Serial", "ValidPrincipals"}))


@dataclass(frozen=True, slots=True)
class SSHPoPSettings:
    """What `plugin_data` says; called, it makes the attestor."""

    authorities: tuple[str, ...]
    authorities_path: Path | None
    canonical_domain: str
    template: PathTemplate

    def __call__(self, store: Store, clock: Clock) -> NodeAttestor:
        """Make the attestor.

        Raises:
            ConfigurationError: an authority is no public key, or their file cannot be read.
        """
        lines = [*self.authorities, *(_lines(self.authorities_path) if self.authorities_path else ())]
        return SSHPoPAttestor(self, frozenset(map(_authority, lines)), store, clock)


class SSHPoPAttestor:
    """Implements the `NodeAttestor` port. The node may come again: its certificate says who it is each time.

    Refusals have upstream's code, INTERNAL, whatever their reason.
    """

    name = NAME

    def __init__(self, settings: SSHPoPSettings, authorities: frozenset[bytes], store: Store, clock: Clock) -> None:
        self._settings = settings
        self._authorities = authorities
        self._store = store
        self._clock = clock

    async def attest(self, request: AttestationRequest) -> NodeAttestation:
        """Verify the certificate, then let the host sign a nonce with its key.

        Raises:
            Internal: the certificate is not a host's of a known authority for now, or the signature not the host's.
        """
        try:
            blob = wire.parse_payload(request.payload)
            certificate = wire.parse_certificate(blob)
        except AttestationMessageError as error:
            raise Internal(f"failed to unmarshal data: {error}") from error
        hostname, principals = self._checked(certificate)
        nonce = secrets.token_bytes(NONCE_BYTES)
        response = await request.challenge(wire.challenge(nonce))
        try:
            wire.verify(certificate.public_key(), nonce, response)
        except AttestationMessageError as error:
            raise Internal(f"failed to verify signature: {error}") from error
        fields: dict[str, Value] = {
            "PluginName": NAME,
            "Fingerprint": wire.fingerprint(blob),
            "Hostname": hostname,
            "KeyId": certificate.key_id.decode("utf-8", "replace"),
            "Serial": certificate.serial,
            "ValidPrincipals": principals,
        }
        return NodeAttestation(
            agent_id(self._store.trust_domain, self._settings.template, fields), (), can_reattest=True
        )

    def _checked(self, certificate: SSHCertificate) -> tuple[str, tuple[str, ...]]:
        try:
            principals = tuple(each.decode("utf-8") for each in certificate.valid_principals)
        except UnicodeDecodeError as error:
            raise Internal("cert has no valid principals") from error
        if not principals:
            raise Internal("cert has no valid principals")
        problem = self._problem(certificate, self._clock())
        if problem:
            raise Internal(f"failed to check host key: {problem}")
        name, domain = principals[0], self._settings.canonical_domain
        if not domain:
            return name, principals
        if not name.endswith(f".{domain}"):
            raise Internal(f'failed to decanonicalize hostname: cert principal is not in domain ".{domain}"')
        return name.removesuffix(f".{domain}"), principals

    def _problem(self, certificate: SSHCertificate, now: datetime) -> str:
        """Say what is wrong with the certificate; nothing if all is well."""
        seconds = int(now.timestamp())
        key = certificate.public_key()
        if certificate.type is not SSHCertificateType.HOST:
            return "it is no host's certificate"
        if _octets(certificate.signature_key()) not in self._authorities:
            return "no authorities for hostname"
        if certificate.critical_options:
            return "it has critical options"
        if seconds < certificate.valid_after:
            return "it is not yet valid"
        if certificate.valid_before != _FOREVER and seconds >= certificate.valid_before:
            return "it has expired"
        if isinstance(key, rsa.RSAPublicKey) and key.key_size > MAX_RSA_KEY_SIZE:
            return "its key is too large"
        try:
            certificate.verify_cert_signature()
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return "its signature does not verify"
        return ""


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: there is no authority, the template is not understood, or a key is unknown.
    """
    with data:
        authorities, path = data.texts("cert_authorities") or (), data.text("cert_authorities_path")
        domain = data.text("canonical_domain") or ""
        template = read_template(data, "/{{ .PluginName}}/{{ .Fingerprint }}", _KNOWN)
    if not authorities and not path:
        raise data.error('missing required config value for "cert_authorities" or "cert_authorities_path"')
    for line in authorities:
        try:
            _authority(line)
        except ConfigurationError as error:
            raise data.error(error.message, "cert_authorities") from error
    return SSHPoPSettings(authorities, Path(path) if path else None, domain, template)


def _authority(line: str) -> bytes:
    """Read a line as in `authorized_keys`, without options."""
    try:
        return _octets(load_ssh_public_key(line.strip().encode()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"failed to parse public key {line[:60]!r}: {error}") from error


def _octets(key: object) -> bytes:
    public_bytes = key.public_bytes  # type: ignore[attr-defined]  # a public key of any kind
    return bytes(public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(MAXIMUM_FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"failed to get cert authorities from file {str(path)!r}: {error}") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ConfigurationError(f"failed to get cert authorities from file: no data found in file: {str(path)!r}")
    return lines
