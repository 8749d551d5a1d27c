"""The identity of this process, always the newest: read from everywhere without blocking, awaited from everywhere."""

from collections.abc import Mapping
from datetime import UTC, datetime

from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import SpiffeID, X509Context
from authsec_sdk.telemetry import Observer
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.backoff import BackoffStrategy
from authsec_sdk.workloadapi.choice import SVIDPicker, choose
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.feed import context_identity
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourceStatus, status_of
from authsec_sdk.workloadapi.stream import x509_updates
from authsec_sdk.workloadapi.stream_feed import Dialling, Stream, StreamFeed
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, ContextSource
from authsec_sdk.workloadapi.wire import X509Update

__all__ = ["X509Source"]


class X509Source(ContextSource):
    """Keeps the SVIDs and bundles of this process up to date for as long as it lives.

    All sources of a process share one daemon thread; reading never blocks and never waits for a busy event loop. Works
    under asyncio, under trio and in threads alike::

        async with X509Source() as source:  # or `with`; waits for the first identity, at most `ready_timeout`
            source.x509_context.svid.id

    What holds: `x509_context` is the newest acceptable update of the agent, whole. It outlives outages of the agent,
    updates that break a rule, and a denial (an SVID ends when it expires); `status` and the log say so. An agent that
    is not there yet is waited for. After a fork the child keeps what was known and begins a stream of its own the next
    time it uses the source.
    Not checked: that the SVIDs chain to the bundles, which the first handshake will tell.

    Args:
        address: where the agent is; None stands for `SPIFFE_ENDPOINT_SOCKET`.
        svid_picker: of several SVIDs returns the one to use; by default that is the first. Runs in the thread.
        hint: use the SVID with this hint instead.
        ready_timeout: how long `with` and `async with` wait for the first identity; None stands for ever.
        expected_agent_uid: talk to nobody but this user on the socket (threat model 13).
        limits: how much an agent may send.
        backoffs: how long to wait after failures of a kind, where not as usual (`Backoff`, or a strategy of your own).
        observer: told what happens to this source and in every TLS context over it (`authsec_sdk.telemetry`).

    Raises:
        InvalidEndpointError: the address is missing or wrong.
        CallerError: both `svid_picker` and `hint` are given.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        svid_picker: SVIDPicker | None = None,
        hint: str | None = None,
        ready_timeout: float | None = READY_TIMEOUT,
        expected_agent_uid: int | None = None,
        limits: UpdateLimits | None = None,
        backoffs: Mapping[FailureKind, BackoffStrategy] | None = None,
        observer: Observer | None = None,
    ) -> None:
        if svid_picker is not None and hint is not None:
            raise CallerError("give svid_picker or hint, not both: each says which SVID to use")
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._feed = _X509Feed(
            Dialling.of(self.endpoint, limits, expected_agent_uid, backoffs),
            Stream("x509", x509_updates, lambda update: choose(update.context, svid_picker, hint), carries_keys=True),
            observer,
        )
        super().__init__(
            self._feed,
            ready_timeout,
            wanted=f"identity from the agent at {self.endpoint}",
            silence="it has not answered",
        )

    def __repr__(self) -> str:
        """Show where it listens and how it is doing."""
        status = self.status
        return f"<X509Source {status.endpoint} {status.phase.value} {status.spiffe_id or 'no identity'}>"

    @property
    def status(self) -> SourceStatus:
        """How the source is doing now. Never blocks, never raises, starts nothing."""
        feed = self._feed
        progress, context = feed.progress, feed.value
        spiffe_id, _, expires_at = context_identity(context)
        return status_of(
            self.endpoint,
            progress,
            known=context is not None,
            closed=feed.closed,
            now=datetime.now(UTC),
            spiffe_id=spiffe_id,
            expires_at=expires_at,
        )


class _X509Feed(StreamFeed[X509Update, X509Context]):
    def _identity(self, value: X509Context) -> tuple[SpiffeID | None, str | None, datetime | None]:
        return context_identity(value)
