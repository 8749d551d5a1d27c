"""The SPIFFE standards as frozen values, and the pure decisions about them. No IO, no clock.

Every value is checked when it is made, by whatever way, so holding one means it is valid.

Names that authsec-sdk 4.x had here (`QuickStartSVID`, `WorkloadAPIClient`, `WorkloadSVID`) are found where they are
now, when they are asked for: nothing here imports them.
"""

import importlib
from typing import Any, Final

from authsec_sdk.spiffe.audience import Audience, InvalidAudienceError
from authsec_sdk.spiffe.bundle import BundleSet, JWTBundle, TrustBundle, WITBundle, X509Bundle
from authsec_sdk.spiffe.bundle_json import format_bundle_document, parse_bundle_document
from authsec_sdk.spiffe.bundle_map_json import format_bundle_map, parse_bundle_map
from authsec_sdk.spiffe.context import X509Context
from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain
from authsec_sdk.spiffe.jwtsvid import JWTSVID
from authsec_sdk.spiffe.key_set_json import format_key_set, parse_jwt_key_set, parse_wit_key_set
from authsec_sdk.spiffe.source import X509ContextHolder, X509ContextListener, X509ContextSource
from authsec_sdk.spiffe.token_claims import DEFAULT_LEEWAY
from authsec_sdk.spiffe.verify import (
    check_authority,
    check_signing_certificate,
    verify_chain,
    verify_membership,
    x509_svid_id,
)
from authsec_sdk.spiffe.witsvid import WITSVID, UnprovenWIT
from authsec_sdk.spiffe.x509svid import X509SVID, SVIDPrivateKey

__all__ = [
    "DEFAULT_LEEWAY",
    "JWTSVID",
    "WITSVID",
    "X509SVID",
    "Audience",
    "BundleSet",
    "InvalidAudienceError",
    "JWTBundle",
    "SVIDPrivateKey",
    "SpiffeID",
    "TrustBundle",
    "TrustDomain",
    "UnprovenWIT",
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
    "format_key_set",
    "parse_bundle_document",
    "parse_bundle_map",
    "parse_jwt_key_set",
    "parse_wit_key_set",
    "verify_chain",
    "verify_membership",
    "x509_svid_id",
]

_ELSEWHERE: Final = {
    "QuickStartSVID": "authsec_sdk.quickstart",
    "WorkloadAPIClient": "authsec_sdk.compat",
    "WorkloadSVID": "authsec_sdk.compat",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
