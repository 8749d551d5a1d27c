"""The SPIFFE standards as frozen values, and the pure decisions about them. No IO, no clock.

Every value is checked when it is made, by whatever way, so holding one means it is valid.
"""

from authsec_sdk.spiffe.bundle import BundleSet, JWTBundle, TrustBundle, WITBundle, X509Bundle
from authsec_sdk.spiffe.bundle_json import format_bundle_document, parse_bundle_document
from authsec_sdk.spiffe.bundle_map_json import format_bundle_map, parse_bundle_map
from authsec_sdk.spiffe.context import X509Context
from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain
from authsec_sdk.spiffe.source import X509ContextHolder, X509ContextListener, X509ContextSource
from authsec_sdk.spiffe.verify import (
    check_authority,
    check_signing_certificate,
    verify_chain,
    verify_membership,
    x509_svid_id,
)
from authsec_sdk.spiffe.x509svid import X509SVID, SVIDPrivateKey

__all__ = [
    "X509SVID",
    "BundleSet",
    "JWTBundle",
    "SVIDPrivateKey",
    "SpiffeID",
    "TrustBundle",
    "TrustDomain",
    "WITBundle",
    "X509Bundle",
    "X509Context",
    "X509ContextHolder",
    "X509ContextListener",
    "X509ContextSource",
    "check_authority",
    "check_signing_certificate",
    "format_bundle_document",
    "format_bundle_map",
    "parse_bundle_document",
    "parse_bundle_map",
    "verify_chain",
    "verify_membership",
    "x509_svid_id",
]
