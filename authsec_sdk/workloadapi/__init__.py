"""Client of the SPIFFE Workload API: where a process gets its identity from, and keeps it up to date.

`x509source`, `bundlesource`, `jwtsource` and `witsource` stand side by side over the same `feed` and `waiting`.
"""

from authsec_sdk.workloadapi.address import SOCKET_ENV, Endpoint, TCPEndpoint, UnixEndpoint, resolve_endpoint
from authsec_sdk.workloadapi.backoff import Backoff, BackoffStrategy
from authsec_sdk.workloadapi.bundlesource import X509BundleSource
from authsec_sdk.workloadapi.choice import SVIDPicker
from authsec_sdk.workloadapi.client import WorkloadAPIClient
from authsec_sdk.workloadapi.failure import FailureKind, UnexpectedOwnerError
from authsec_sdk.workloadapi.jwtsource import JWTSource
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourcePhase, SourceState, SourceStatus
from authsec_sdk.workloadapi.witsource import WITBundleSource, WITSource
from authsec_sdk.workloadapi.x509source import X509Source

__all__ = [
    "SOCKET_ENV",
    "Backoff",
    "BackoffStrategy",
    "Endpoint",
    "FailureKind",
    "JWTSource",
    "SVIDPicker",
    "SourcePhase",
    "SourceState",
    "SourceStatus",
    "TCPEndpoint",
    "UnexpectedOwnerError",
    "UnixEndpoint",
    "UpdateLimits",
    "WITBundleSource",
    "WITSource",
    "WorkloadAPIClient",
    "X509BundleSource",
    "X509Source",
    "resolve_endpoint",
]
