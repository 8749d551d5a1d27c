"""Whether what three files hold is one consistent whole, and which context it is; pure."""

from datetime import datetime

from cryptography import x509

from authsec_sdk.errors import InvalidBundleError, InvalidX509SVIDError, SpiffeError
from authsec_sdk.spiffe import (
    X509SVID,
    BundleSet,
    SpiffeID,
    TrustDomain,
    X509Bundle,
    X509Context,
    parse_bundle_map,
    verify_chain,
)

__all__ = ["read_bundle_map", "read_pem_bundle", "whole"]


def read_pem_bundle(trust_domain: TrustDomain, data: bytes) -> BundleSet[X509Bundle]:
    """Read the PEM bundle of one trust domain.

    Not checked, for nothing tells: whose an authority is that names no SPIFFE ID. Whoever writes the file is believed.

    Raises:
        InvalidBundleError: it is malformed or empty, or an authority names another trust domain (threat model 5).
    """
    try:
        bundle = X509Bundle.parse_pem(trust_domain, data)
    finally:
        del data  # files are mixed up, and then this is a key
    if not len(bundle):
        raise InvalidBundleError(f"the bundle of {trust_domain} is empty")
    _check_owner(bundle, "write only the bundle of one domain, or use trust_bundles.json for several")
    return BundleSet.of(bundle)


def read_bundle_map(data: bytes) -> BundleSet[X509Bundle]:
    """Read the X.509 side of a SPIFFE bundle map.

    Raises:
        InvalidBundleError: it is malformed, or an authority names another trust domain than the one it stands under.
    """
    try:
        bundles = BundleSet(bundle.x509_bundle() for bundle in parse_bundle_map(data).values())
    finally:
        del data
    for bundle in bundles.values():
        _check_owner(bundle, "it stands under the wrong key of trust_domains")
    return bundles


def whole(svid: X509SVID, bundles: BundleSet[X509Bundle], trust_domain: TrustDomain, *, now: datetime) -> X509Context:
    """Return the context of an SVID that the bundle which came with it proves now.

    Raises:
        InvalidX509SVIDError: the SVID is of another trust domain than the one configured, or expired.
        PeerCredentialError: it does not lead to an authority of its domain; see `verify_chain`, whose limits hold too.
    """
    if svid.id.trust_domain != trust_domain:
        raise InvalidX509SVIDError(f"the certificate names {svid.id}, and {trust_domain} is configured")
    if svid.is_expired(now):
        raise InvalidX509SVIDError(f"the certificate of {svid.id} expired at {svid.not_after:%FT%TZ}")
    verify_chain(svid.certificates, bundles, at=now)
    return X509Context((svid,), bundles)


def _check_owner(bundle: X509Bundle, remedy: str) -> None:
    for authority in bundle.authorities:
        for uri in _uris(authority):
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


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
