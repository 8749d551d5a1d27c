"""SPIFFE workload identity for Python: mutual TLS with identities that rotate by themselves.

The names below are those most programs need, re-exported lazily: importing this package loads nothing else, and each
name loads its own part when it is first used. Everything else is imported from where it is defined.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from authsec_sdk.authz import (
        all_of,
        any_of,
        authorize_id,
        authorize_if,
        authorize_member_of,
        authorize_one_of,
        authorize_path,
        not_,
    )
    from authsec_sdk.errors import PeerNotAuthorizedError, SpiffeError
    from authsec_sdk.jose.fault import InvalidTokenError
    from authsec_sdk.quickstart import QuickStartSVID
    from authsec_sdk.spiffe import JWTSVID, X509SVID, SpiffeID, TrustDomain, X509Bundle, X509Context
    from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context, peer_spiffe_id
    from authsec_sdk.workloadapi import JWTSource, WorkloadAPIClient, X509Source

__all__ = [
    "JWTSVID",
    "X509SVID",
    "InvalidTokenError",
    "JWTSource",
    "PeerNotAuthorizedError",
    "QuickStartSVID",
    "SpiffeError",
    "SpiffeID",
    "SpiffeSSLContext",
    "TrustDomain",
    "WorkloadAPIClient",
    "X509Bundle",
    "X509Context",
    "X509Source",
    "all_of",
    "any_of",
    "authorize_id",
    "authorize_if",
    "authorize_member_of",
    "authorize_one_of",
    "authorize_path",
    "mtls_client_context",
    "mtls_server_context",
    "not_",
    "peer_spiffe_id",
]

# The same names again, for the interpreter: which part defines which. A test holds the two lists together.
_PARTS: Final = {
    "authz": (
        "all_of",
        "any_of",
        "authorize_id",
        "authorize_if",
        "authorize_member_of",
        "authorize_one_of",
        "authorize_path",
        "not_",
    ),
    "errors": ("PeerNotAuthorizedError", "SpiffeError"),
    "jose.fault": ("InvalidTokenError",),
    "quickstart": ("QuickStartSVID",),
    "spiffe": ("JWTSVID", "SpiffeID", "TrustDomain", "X509Bundle", "X509Context", "X509SVID"),
    "tls": ("SpiffeSSLContext", "mtls_client_context", "mtls_server_context", "peer_spiffe_id"),
    "workloadapi": ("JWTSource", "WorkloadAPIClient", "X509Source"),
}


def __getattr__(name: str) -> object:
    for part, names in _PARTS.items():
        if name in names:
            value: object = getattr(importlib.import_module(f"{__name__}.{part}"), name)
            globals()[name] = value  # so that this function is asked once for each name
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
