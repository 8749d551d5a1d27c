"""An authority with its key: made, published, and then ready to sign leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.jose.jwk import JWTPublicKey
from icp_server.ca.keys import PrivateKey, public_key_info, scheme_of, signing_with
from icp_server.ca.keys_remote import is_remote
from icp_server.ca.leaf_encoder import LeafEncoder
from icp_server.domain.ca_slots import AuthorityRecord
from icp_server.domain.svid_template import CATemplate


@dataclass(frozen=True, slots=True)
class SigningAuthority:
    """What signs leaves: a record of the journal, its encoder, and the use of the key that belongs to it."""

    record: AuthorityRecord
    encoder: LeafEncoder = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False)
    """A signature with the authority's key, as certificates carry it."""
    sign_certificate: Callable[[x509.CertificateBuilder], x509.Certificate] = field(repr=False)
    """For the few certificates that are no leaves."""
    remote: bool = False
    """Whether signing may wait for another machine, so that no event loop should."""

    @classmethod
    def of(cls, record: AuthorityRecord, key: PrivateKey | None) -> SigningAuthority | None:
        """Join a record with the key of its slot; None if that is not the key of the record's certificate."""
        if key is None:
            return None
        certificate = x509.load_der_x509_certificate(record.data)
        public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if public != public_key_info(key):
            return None
        scheme = scheme_of(key)
        encoder = LeafEncoder(certificate.subject, bytes.fromhex(record.authority_id), scheme.algorithm)
        sign = signing_with(key, scheme)
        return cls(record, encoder, sign, lambda builder: _signed(builder, key), is_remote(key))

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an authority holds a private key and is not pickled")


def self_signed(template: CATemplate, key: PrivateKey) -> tuple[bytes, str]:
    """A root certificate (DER) by the template, and its authority id: the subject key id in hex.

    The key identifier is there (verifiers choose among roots by it) and the authority key identifier is not: RFC 5280
    section 4.2.1.1 lets a self-signed certificate do without.
    """
    public_key = key.public_key()
    key_id = x509.SubjectKeyIdentifier.from_public_key(public_key)
    builder = _ca_builder(template, public_key, key_id).issuer_name(template.subject)
    return _signed(builder, key).public_bytes(Encoding.DER), key_id.digest.hex()


def subordinate(template: CATemplate, public_key: JWTPublicKey, authority: SigningAuthority) -> bytes:
    """A CA certificate (DER) by the template for somebody else's key, below an authority."""
    issuer = x509.load_der_x509_certificate(authority.record.data)
    builder = (
        _ca_builder(template, public_key, x509.SubjectKeyIdentifier.from_public_key(public_key))
        .issuer_name(issuer.subject)
        .add_extension(
            x509.AuthorityKeyIdentifier(bytes.fromhex(authority.record.authority_id), None, None), critical=False
        )
    )
    return authority.sign_certificate(builder).public_bytes(Encoding.DER)


def _ca_builder(
    template: CATemplate, public_key: JWTPublicKey, key_id: x509.SubjectKeyIdentifier
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    uri = x509.UniformResourceIdentifier(str(template.trust_domain.id))
    builder = (
        x509.CertificateBuilder()
        .serial_number(template.serial_number)
        .subject_name(template.subject)
        .public_key(public_key)
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    )
    for more in template.extensions:
        builder = builder.add_extension(more.value, critical=more.critical)
    return builder


def _signed(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    return builder.sign(key, scheme_of(key).hash)  # type: ignore[arg-type]  # the two hashes are among those it takes
