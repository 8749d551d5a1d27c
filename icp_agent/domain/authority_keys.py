"""Which X.509 authority a chain leads to, by key identifiers (RFC 5280 sections 4.2.1.1 and 4.2.1.2)."""

from collections.abc import Iterable

from cryptography import x509

from authsec_sdk.spiffe import X509SVID


def authority_key_id(svid: X509SVID) -> bytes:
    """The key id of the authority above an SVID's chain; nothing where the chain does not say."""
    try:
        extension = svid.certificates[-1].extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return b""
    return extension.value.key_identifier or b""


def key_ids_of(authorities: Iterable[x509.Certificate]) -> frozenset[bytes]:
    """The key ids of authorities."""
    return frozenset(_key_id(authority) for authority in authorities)


def _key_id(authority: x509.Certificate) -> bytes:
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        return x509.SubjectKeyIdentifier.from_public_key(authority.public_key()).digest
