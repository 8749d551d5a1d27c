"""A certificate builder which makes wrong ones too; `authsec_sdk.testing` makes good ones and stands above us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)

_EKU = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def make_key(kind: str) -> Any:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[kind])


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_der(self) -> bytes:
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Mint:
    """Issues certificates exactly as told, right or wrong. Dates count in hours from `NOW`."""

    now = NOW

    def issue(
        self,
        issuer: Issued | None = None,
        *,
        subject: str = "subject",
        issuer_name: str | None = None,
        uris: Sequence[str] | None = None,
        dns: Sequence[str] = (),
        san_critical: bool = False,
        basic_constraints: bool | None = None,
        basic_constraints_critical: bool = True,
        path_length: int | None = None,
        key_usage: Sequence[str] | None = None,
        key_usage_critical: bool = True,
        extended_key_usage: Sequence[str] | None = None,
        extended_key_usage_critical: bool = False,
        not_before_hours: float = -1,
        not_after_hours: float = 1,
        key: Any = "p256",
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        signed_by: Any = None,
    ) -> Issued:
        own_key = make_key(key) if isinstance(key, str) else key
        name = _name(subject)
        if issuer_name is not None:
            parent = _name(issuer_name)
        else:
            parent = name if issuer is None else issuer.certificate.subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(parent)
            .public_key(own_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(hours=not_before_hours))
            .not_valid_after(NOW + timedelta(hours=not_after_hours))
        )
        if uris is not None or dns:
            names: list[x509.GeneralName] = [x509.DNSName(text) for text in dns]
            names += [x509.UniformResourceIdentifier(text) for text in uris or ()]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), san_critical)
        if basic_constraints is not None:
            length = path_length if basic_constraints else None
            builder = builder.add_extension(
                x509.BasicConstraints(basic_constraints, length), basic_constraints_critical
            )
        if key_usage is not None:
            usages = x509.KeyUsage(**{usage: usage in key_usage for usage in _USAGES})
            builder = builder.add_extension(usages, key_usage_critical)
        if extended_key_usage is not None:
            oids = x509.ExtendedKeyUsage([_EKU[usage] for usage in extended_key_usage])
            builder = builder.add_extension(oids, extended_key_usage_critical)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        signer = signed_by or (own_key if issuer is None else issuer.key)
        algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return Issued(builder.sign(signer, algorithm), own_key)

    def root(self, subject: str = "root", **changes: Any) -> Issued:
        good: dict[str, Any] = {
            "subject": subject,
            "uris": ["spiffe://example.org"],
            "basic_constraints": True,
            "key_usage": ["key_cert_sign", "crl_sign"],
            "not_after_hours": 24,
        }
        return self.issue(None, **(good | changes))

    def intermediate(self, issuer: Issued, subject: str = "intermediate", **changes: Any) -> Issued:
        good: dict[str, Any] = {
            "subject": subject,
            "uris": ["spiffe://example.org"],
            "basic_constraints": True,
            "key_usage": ["key_cert_sign", "crl_sign"],
        }
        return self.issue(issuer, **(good | changes))

    def leaf(self, issuer: Issued, uri: str = "spiffe://example.org/a", **changes: Any) -> Issued:
        good: dict[str, Any] = {
            "subject": "leaf",
            "uris": [uri],
            "basic_constraints": False,
            "key_usage": ["digital_signature"],
            "extended_key_usage": ["serverAuth", "clientAuth"],
        }
        return self.issue(issuer, **(good | changes))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


@pytest.fixture(scope="session")
def mint() -> Mint:
    return Mint()


@pytest.fixture(scope="session")
def root(mint: Mint) -> Issued:
    return mint.root()
