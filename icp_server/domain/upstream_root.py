"""Which root stands above an authority that an upstream one signed: by the key identifiers certificates name."""

from __future__ import annotations

from collections.abc import Collection

from cryptography import x509

from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.ca_slots import AuthorityRecord


def upstream_root_id(record: AuthorityRecord) -> str:
    """The key identifier, in hex, of the root above an authority: who issued the last link of its chain.

    Empty for a self-signed authority, and where the last link does not say who issued it.
    """
    if not record.upstream_chain:
        return ""
    last = x509.load_der_x509_certificate(record.upstream_chain[-1])
    try:
        issuer = last.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    return issuer.hex() if issuer else ""


def root_key_id(root: x509.Certificate) -> str:
    """The key identifier, in hex, a root names itself by; where it names none, the one of its key by SHA-1."""
    try:
        return root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        return certificate_key_id(root)


def certificate_key_id(certificate: x509.Certificate) -> str:
    """The identifier the bundle's store knows a certificate by: that of its key by SHA-1, whatever it says itself."""
    return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest.hex()


def tainted_roots(published: PublishedBundle | None) -> frozenset[str]:
    """The key identifiers of the tainted X.509 authorities of a bundle."""
    return frozenset(map(root_key_id, published.tainted.x509_authorities)) if published else frozenset()


def signed_by(record: AuthorityRecord, roots: Collection[str]) -> bool:
    """Whether one of these roots stands above an authority."""
    return upstream_root_id(record) in roots
