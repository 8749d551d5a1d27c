"""Whether the authorities of a bundle are its trust domain's own, as far as they say whose they are; pure."""

from __future__ import annotations

from cryptography import x509

from authsec_sdk.errors import InvalidBundleError, SpiffeError
from authsec_sdk.spiffe.bundle import X509Bundle
from authsec_sdk.spiffe.ids import SpiffeID

__all__ = ["check_authority_owners"]


def check_authority_owners(bundle: X509Bundle, remedy: str) -> None:
    """Refuse a bundle in which an authority names another trust domain (threat model 5).

    Not checked, for nothing tells: whose an authority is that names no SPIFFE ID.

    Raises:
        InvalidBundleError: an authority names another domain (`remedy` then ends the text), or what begins like a
            SPIFFE ID and is none, or its extensions cannot be read.
    """
    for authority in bundle.authorities:
        for uri in _uris(bundle, authority):
            if not uri.lower().startswith("spiffe:"):
                continue
            try:
                owner = SpiffeID.parse(uri).trust_domain
            except SpiffeError as error:
                raise InvalidBundleError(
                    f"an authority in the bundle of {bundle.trust_domain} names no SPIFFE ID: {error}"
                ) from None
            if owner != bundle.trust_domain:
                raise InvalidBundleError(
                    f"an authority in the bundle of {bundle.trust_domain} names the trust domain {owner}: {remedy}"
                )


def _uris(bundle: X509Bundle, certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise InvalidBundleError(
            f"an authority in the bundle of {bundle.trust_domain} has extensions that cannot be read: {error}"
        ) from None
    return names.get_values_for_type(x509.UniformResourceIdentifier)
