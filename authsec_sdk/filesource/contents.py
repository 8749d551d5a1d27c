"""Whether what three files hold is one consistent whole, and which context it is; pure."""

from datetime import datetime

from authsec_sdk.errors import InvalidBundleError, InvalidX509SVIDError
from authsec_sdk.spiffe import (
    X509SVID,
    BundleSet,
    TrustDomain,
    X509Bundle,
    X509Context,
    parse_bundle_map,
    verify_chain,
)
from authsec_sdk.spiffe.authority_owner import check_authority_owners

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
    check_authority_owners(bundle, "write only the bundle of one domain, or use trust_bundles.json for several")
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
        check_authority_owners(bundle, "it stands under the wrong key of trust_domains")
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
