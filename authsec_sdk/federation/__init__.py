"""SPIFFE Federation: fetch the bundles of other trust domains from their endpoints, follow them, and serve one's own.

`FederationSource` follows endpoints, `FederatedX509Source` adds what it brings to an identity, `fetch_bundle` and
`wait_bundle` fetch once, and `BundleServer` serves.
"""

from authsec_sdk.federation.combined import FederatedX509Source
from authsec_sdk.federation.endpoint import BundleEndpoint, OIDCProfile, SpiffeProfile, WebProfile, read_bundle_file
from authsec_sdk.federation.errors import BundleEndpointError, StaleBundleError
from authsec_sdk.federation.fetch import MAX_BUNDLE_BYTES, fetch_bundle, wait_bundle
from authsec_sdk.federation.https import https_get
from authsec_sdk.federation.refresh import RefreshPolicy
from authsec_sdk.federation.server import BundleServer, own_bundle
from authsec_sdk.federation.source import FederationSource
from authsec_sdk.federation.status import EndpointStatus, FederationStatus

__all__ = [
    "MAX_BUNDLE_BYTES",
    "BundleEndpoint",
    "BundleEndpointError",
    "BundleServer",
    "EndpointStatus",
    "FederatedX509Source",
    "FederationSource",
    "FederationStatus",
    "OIDCProfile",
    "RefreshPolicy",
    "SpiffeProfile",
    "StaleBundleError",
    "WebProfile",
    "fetch_bundle",
    "https_get",
    "own_bundle",
    "read_bundle_file",
    "wait_bundle",
]
