"""The errors of TLS with SVIDs: each is one of ours and, at the same time, an `ssl` error, as TLS libraries expect."""

from __future__ import annotations

import ssl

from authsec_sdk.errors import CallerError, SpiffeError
from authsec_sdk.spiffe import SpiffeID

__all__ = ["ConnectionEndedError", "ContextSettingError", "IdentityUnavailableError", "PeerVerificationError"]

_SSL_ERROR = int(ssl.SSLErrorNumber.SSL_ERROR_SSL)


class PeerVerificationError(SpiffeError, ssl.SSLCertVerificationError):
    """The handshake refused the peer. No application byte was sent or taken.

    `reason` is the pure error: `InvalidX509SVIDError`, `NoBundleForTrustDomainError`, `UntrustedPeerError` or
    `PeerNotAuthorizedError`. `spiffe_id` is the ID in the peer's certificate as far as one could be read; it is proven
    only where the reason is `PeerNotAuthorizedError`. The text is for our own side and is never sent to the peer.
    """

    reason: SpiffeError  # type: ignore[assignment]  # ssl keeps a short text here; ours says more

    def __init__(self, reason: SpiffeError, spiffe_id: SpiffeID | None = None) -> None:
        super().__init__(_SSL_ERROR, f"peer refused: {reason}")
        self.reason = reason
        self.spiffe_id = spiffe_id
        # What readers of ssl's own error look for.
        self.library = "SSL"
        self.verify_code = 1
        self.verify_message = str(reason)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.reason, self.spiffe_id))


class IdentityUnavailableError(SpiffeError, ssl.SSLError):
    """There is nothing to begin a TLS connection with: no identity yet, or none that OpenSSL takes, or a closed source.

    `reason` is the error that says why, such as `NotReadyError`. An `ssl.SSLError` because servers survive those: the
    connection ends, and the next one is tried again.
    """

    reason: SpiffeError  # type: ignore[assignment]  # as above

    def __init__(self, reason: SpiffeError) -> None:
        super().__init__(_SSL_ERROR, f"no identity to begin TLS with: {reason}")
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.reason,))


class ConnectionEndedError(SpiffeError, ssl.SSLError):
    """An established connection may not be used any more; its text says why. Open a new one."""

    def __init__(self, text: str) -> None:
        super().__init__(_SSL_ERROR, text)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.strerror,))


class ContextSettingError(CallerError, ValueError):
    """A setting was asked of a `SpiffeSSLContext` that would break what it promises."""
