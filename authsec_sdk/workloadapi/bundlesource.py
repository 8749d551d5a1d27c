"""The bundles of every trust domain this process may meet, always the newest: for verifiers without an identity."""

from collections.abc import Mapping
from datetime import UTC, datetime

from authsec_sdk.spiffe import X509Context
from authsec_sdk.telemetry import Observer
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.backoff import BackoffStrategy
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourceStatus, status_of
from authsec_sdk.workloadapi.stream import bundle_updates
from authsec_sdk.workloadapi.stream_feed import Dialling, Stream, StreamFeed
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, ContextSource
from authsec_sdk.workloadapi.wire import BundlesUpdate

__all__ = ["X509BundleSource"]


class X509BundleSource(ContextSource):
    """Follows FetchX509Bundles and publishes contexts that hold bundles and no SVID::

        async with X509BundleSource() as source:  # or `with`; waits for the first bundles, at most `ready_timeout`
            context = tls_client_context(source, authorize_id("spiffe://example.org/payments"))

    Everything that needs an SVID refuses such a context (NoIdentityError). What holds of `X509Source` holds here: the
    newest acceptable update, whole, outlives outages, refused updates and denials; an agent that is not there yet is
    waited for; a forked child begins a stream of its own. Works under asyncio, under trio and in threads.

    Args:
        address: where the agent is; None stands for `SPIFFE_ENDPOINT_SOCKET`.
        ready_timeout: how long `with` and `async with` wait for the first bundles; None stands for ever.
        expected_agent_uid: talk to nobody but this user on the socket (threat model 13).
        limits: how much an agent may send.
        backoffs: as `X509Source`.
        observer: as `X509Source`.

    Raises:
        InvalidEndpointError: the address is missing or wrong.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        ready_timeout: float | None = READY_TIMEOUT,
        expected_agent_uid: int | None = None,
        limits: UpdateLimits | None = None,
        backoffs: Mapping[FailureKind, BackoffStrategy] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._feed: StreamFeed[BundlesUpdate, X509Context] = StreamFeed(
            Dialling.of(self.endpoint, limits, expected_agent_uid, backoffs),
            Stream("x509 bundles", bundle_updates, lambda update: X509Context((), update.bundles, update.crls)),
            observer,
        )
        super().__init__(
            self._feed,
            ready_timeout,
            wanted=f"X.509 bundles from the agent at {self.endpoint}",
            silence="it has not answered",
        )

    def __repr__(self) -> str:
        """Show where it listens and how it is doing."""
        status = self.status
        return f"<X509BundleSource {status.endpoint} {status.phase.value}>"

    @property
    def status(self) -> SourceStatus:
        """How the stream is doing; `healthy` says that there are bundles. Never blocks, starts nothing."""
        feed = self._feed
        return status_of(
            self.endpoint, feed.progress, known=feed.value is not None, closed=feed.closed, now=datetime.now(UTC)
        )
