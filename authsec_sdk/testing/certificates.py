"""Build any certificate a test needs, right or wrong: pure, no state, no clock of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEY_USAGE_BITS = (
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
SERVER_AND_CLIENT = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
SIGNER_USAGE = frozenset({"key_cert_sign", "crl_sign"})
LEAF_USAGE = frozenset({"digital_signature"})


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A certificate chain, leaf first, and the leaf's key; nothing about it was checked, and nothing need hold."""

    certificates: tuple[x509.Certificate, ...]
    private_key: CertificateIssuerPrivateKeyTypes

    def __repr__(self) -> str:
        """Show the leaf's serial number and expiry, never the key."""
        leaf = self.leaf
        return f"<Credential serial={leaf.serial_number:x} not_after={leaf.not_valid_after_utc.isoformat()}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        """Refuse to be pickled: a pickle would carry the key."""
        raise TypeError("a Credential holds a private key and is not pickled")

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate the key belongs to (or is said to)."""
        return self.certificates[0]

    def chain_der(self) -> bytes:
        """Return the chain as the Workload API carries it: DER certificates one after another, leaf first."""
        return b"".join(certificate.public_bytes(serialization.Encoding.DER) for certificate in self.certificates)

    def chain_pem(self) -> bytes:
        """Return the chain as PEM blocks, leaf first."""
        return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in self.certificates)

    def key_der(self) -> bytes:
        """Return the key as unencrypted PKCS#8 DER."""
        return self.private_key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def key_pem(self) -> bytes:
        """Return the key as unencrypted PKCS#8 PEM."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    """Everything a certificate says but its issuer and key; `None` leaves an extension out."""

    subject: x509.Name
    not_before: datetime
    not_after: datetime
    uris: Sequence[str] = ()
    dns_names: Sequence[str] = ()
    ca: bool | None = False
    path_length: int | None = None
    key_usage: frozenset[str] | None = LEAF_USAGE
    extended_key_usage: Sequence[x509.ObjectIdentifier] | None = SERVER_AND_CLIENT
    subject_key_id: bytes | None = None
    with_subject_key_id: bool = True
    with_authority_key_id: bool = True
    serial_number: int | None = None
    extensions: Mapping[x509.ExtensionType, bool] = field(default_factory=dict)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key, the kind SPIRE issues by default."""
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name: str, *, organization: str = "SPIFFE", serial_number: str | None = None) -> x509.Name:
    """Make a distinguished name; an empty common name is left out."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    if serial_number is not None:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial_number))
    return x509.Name(attributes)


def build_certificate(
    plan: CertificatePlan,
    key: CertificateIssuerPrivateKeyTypes,
    issuer_key: CertificateIssuerPrivateKeyTypes,
    issuer: x509.Certificate | None = None,
) -> x509.Certificate:
    """Sign what the plan says for `key` with `issuer_key`; without an `issuer` the certificate names itself.

    Nothing is checked: a plan can describe a certificate that every verifier must refuse.
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(plan.subject)
        .issuer_name(plan.subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() if plan.serial_number is None else plan.serial_number)
        .not_valid_before(plan.not_before)
        .not_valid_after(plan.not_after)
    )
    for extension, critical in _extensions(plan, key, issuer_key, issuer):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, _hash_for(issuer_key))


def _extensions(
    plan: CertificatePlan,
    key: CertificateIssuerPrivateKeyTypes,
    issuer_key: CertificateIssuerPrivateKeyTypes,
    issuer: x509.Certificate | None,
) -> list[tuple[x509.ExtensionType, bool]]:
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if plan.ca is not None:
        extensions.append((x509.BasicConstraints(ca=plan.ca, path_length=plan.path_length), True))
    if plan.key_usage is not None:
        extensions.append((x509.KeyUsage(**{bit: bit in plan.key_usage for bit in KEY_USAGE_BITS}), True))
    if plan.extended_key_usage is not None:
        extensions.append((x509.ExtendedKeyUsage(plan.extended_key_usage), False))
    if plan.with_subject_key_id:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        identifier = own if plan.subject_key_id is None else x509.SubjectKeyIdentifier(plan.subject_key_id)
        extensions.append((identifier, False))
    if plan.with_authority_key_id and issuer is not None:
        extensions.append((_authority_key_id(issuer, issuer_key), False))
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in plan.uris]
    names += [x509.DNSName(dns_name) for dns_name in plan.dns_names]
    if names:
        # RFC 5280 section 4.2.1.6: critical when the subject is empty.
        extensions.append((x509.SubjectAlternativeName(names), not plan.subject.rdns))
    extensions += plan.extensions.items()
    return extensions


def _authority_key_id(
    issuer: x509.Certificate, issuer_key: CertificateIssuerPrivateKeyTypes
) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _hash_for(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    """Ed25519 and Ed448 hash for themselves (RFC 8410); everything else signs SHA-256."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
