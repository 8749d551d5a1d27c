"""The identity of this process, always the newest: read from everywhere without blocking, awaited from everywhere."""

from datetime import UTC, datetime

from authsec_sdk.errors import CallerError
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.choice import SVIDPicker, choose
from authsec_sdk.workloadapi.feed import X509Feed
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourcePhase, SourceStatus
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, WaitingSource

__all__ = ["X509Source"]


class X509Source(WaitingSource):
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
    ) -> None:
        if svid_picker is not None and hint is not None:
            raise CallerError("give svid_picker or hint, not both: each says which SVID to use")
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._feed = X509Feed(
            self.endpoint,
            lambda context: choose(context, svid_picker, hint),
            limits=limits or UpdateLimits(),
            expected_agent_uid=expected_agent_uid,
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
        progress, context = self._feed.progress, self._feed.context
        svid = None if context is None else context.svid
        now = datetime.now(UTC)
        return SourceStatus(
            endpoint=self.endpoint,
            phase=SourcePhase.CLOSED if self._feed.closed else progress.phase,
            healthy=svid is not None and not svid.is_expired(now) and not self._feed.closed,
            spiffe_id=None if svid is None else svid.id,
            expires_at=None if svid is None else svid.not_after,
            last_update=progress.last_update,
            last_error=progress.last_error,
            last_error_at=progress.last_error_at,
            updates=progress.updates,
            rejected=progress.rejected,
            reconnects=max(0, progress.attempts - 1),
            failures=progress.failures,
            problems=progress.problems,
        )
