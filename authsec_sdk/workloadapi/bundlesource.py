"""The bundles of every trust domain this process may meet, always the newest: for verifiers without an identity."""

import logging
from collections.abc import Callable

from authsec_sdk.errors import SourceClosedError
from authsec_sdk.spiffe import BundleSet, X509Bundle, X509Context, X509ContextHolder, X509ContextListener
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.bell import Bells
from authsec_sdk.workloadapi.bundle_feed import BundleFeed, Dialling
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import Progress, SourcePhase, SourceStatus
from authsec_sdk.workloadapi.stream import bundle_updates
from authsec_sdk.workloadapi.thread import Job
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, WaitingSource

__all__ = ["X509BundleSource"]

_logger = logging.getLogger(__name__)


class X509BundleSource(WaitingSource):
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
    ) -> None:
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._feed = _Contexts(Dialling(self.endpoint, limits or UpdateLimits(), expected_agent_uid))
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
        progress, closed = feed.progress, feed.closed
        return SourceStatus(
            endpoint=self.endpoint,
            phase=SourcePhase.CLOSED if closed else progress.phase,
            healthy=feed.context is not None and not closed,
            spiffe_id=None,
            expires_at=None,
            last_update=progress.last_update,
            last_error=progress.last_error,
            last_error_at=progress.last_error_at,
            updates=progress.updates,
            rejected=progress.rejected,
            reconnects=max(0, progress.attempts - 1),
            failures=progress.failures,
            problems=progress.problems,
        )


class _Contexts:
    """A feed of bundles, seen as one of contexts."""

    def __init__(self, dialling: Dialling) -> None:
        self._holder = X509ContextHolder()
        self._feed: BundleFeed[X509Bundle] = BundleFeed(dialling, bundle_updates, after_news=self._publish)
        self.context: X509Context | None = None

    @property
    def progress(self) -> Progress:
        return self._feed.progress

    @property
    def closed(self) -> bool:
        return self._feed.closed

    @property
    def running(self) -> bool:
        return self._feed.running

    @property
    def bells(self) -> Bells:
        return self._feed.bells

    def start(self) -> None:
        self._feed.start()

    def close(self) -> Job | None:
        job = self._feed.close()
        self._holder.close()
        self.context = None
        return job

    def add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        return self._holder._add_listener(listener)

    def _publish(self, bundles: BundleSet[X509Bundle]) -> None:
        self.context = context = X509Context((), bundles)
        try:
            self._holder.publish(context)
        except SourceClosedError:  # meanwhile
            self.context = None
        except ExceptionGroup:
            _logger.exception("new bundles could not be taken by a TLS context, which keeps its old ones")
