"""SVIDs into `ssl.SSLContext`: hot-swapping contexts that authorize by SPIFFE ID inside the handshake.

`mtls_client_context(source, authorizer)` and `mtls_server_context(source, authorizer)` give contexts for any library
that takes an `ssl.SSLContext`. Importing this package fails where the standard library's `ssl` is not as expected.
"""

from authsec_sdk.tls import selftest as _selftest

_selftest.check()

from authsec_sdk.tls import fork as _fork  # noqa: E402,F401 - nothing below works unchecked; this one registers itself
from authsec_sdk.tls.connection import SpiffeSSLObject, SpiffeSSLSocket, drain_due, peer_spiffe_id  # noqa: E402
from authsec_sdk.tls.context import SpiffeSSLContext  # noqa: E402
from authsec_sdk.tls.errors import (  # noqa: E402
    ConnectionEndedError,
    ContextSettingError,
    IdentityUnavailableError,
    PeerVerificationError,
)
from authsec_sdk.tls.factories import (  # noqa: E402
    mtls_client_context,
    mtls_server_context,
    mtls_web_client_context,
    mtls_web_server_context,
    tls_client_context,
    tls_server_context,
    unsafe_bootstrap_client_context,
)
from authsec_sdk.tls.limits import TLSLimits  # noqa: E402
from authsec_sdk.tls.live import LiveChecks  # noqa: E402
from authsec_sdk.tls.peer import Rejection, RejectionHook  # noqa: E402
from authsec_sdk.tls.trust import SetAside  # noqa: E402
from authsec_sdk.tls.web import WebCertificate  # noqa: E402

__all__ = [
    "ConnectionEndedError",
    "ContextSettingError",
    "IdentityUnavailableError",
    "LiveChecks",
    "PeerVerificationError",
    "Rejection",
    "RejectionHook",
    "SetAside",
    "SpiffeSSLContext",
    "SpiffeSSLObject",
    "SpiffeSSLSocket",
    "TLSLimits",
    "WebCertificate",
    "drain_due",
    "mtls_client_context",
    "mtls_server_context",
    "mtls_web_client_context",
    "mtls_web_server_context",
    "peer_spiffe_id",
    "tls_client_context",
    "tls_server_context",
    "unsafe_bootstrap_client_context",
]
