"""The identity of this process, always the newest: read from everywhere without blocking, awaited from everywhere."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import anyio

from authsec_sdk.errors import CallerError, NotReadyError, SourceClosedError, WorkloadAPIError
from authsec_sdk.spiffe import X509Context, X509ContextListener
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.bell import AsyncBell, ThreadBell
from authsec_sdk.workloadapi.choice import SVIDPicker, choose
from authsec_sdk.workloadapi.feed import X509Feed
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourcePhase, SourceStatus

__all__ = ["X509Source"]

READY_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0

_logger = logging.getLogger(__name__)


class X509Source:
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
        self._ready_timeout = ready_timeout
        self._feed = X509Feed(
            self.endpoint,
            lambda context: choose(context, svid_picker, hint),
            limits=limits or UpdateLimits(),
            expected_agent_uid=expected_agent_uid,
        )

    def __repr__(self) -> str:
        """Show where it listens and how it is doing."""
        status = self.status
        return f"<X509Source {status.endpoint} {status.phase.value} {status.spiffe_id or 'no identity'}>"

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def x509_context(self) -> X509Context:
        """The newest context; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none has arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        feed = self._feed
        if not feed.running:
            feed.start()
        context = feed.context
        if context is None:
            raise self._closed() if feed.closed else self._not_ready(None)
        return context

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

    async def ready(self, timeout: float | None = None) -> X509Context:
        """Wait until there is an identity, and return it; on asyncio and trio, for any number of tasks.

        Raises:
            NotReadyError: not within `timeout` seconds; the last failure is the cause and in the text.
            WorkloadAPIError: the agent does not take the call. The source goes on trying, and one may wait again.
            SourceClosedError: the source was closed.
        """
        self.start()
        bell = AsyncBell()
        with anyio.move_on_after(timeout), self._feed.bells.hung_up(bell):
            while (context := self._arrived(None)) is None:
                await bell.wait()
            return context
        raise self._not_ready(timeout)

    def wait(self, timeout: float | None = None, *, newer_than: X509Context | None = None) -> X509Context:
        """Block this thread until there is an identity, or another one than `newer_than`, and return it.

        Raises: as `ready`, which is what tasks use instead: this blocks their event loop.
        """
        self.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        bell = ThreadBell()
        with self._feed.bells.hung_up(bell):
            while (context := self._arrived(newer_than)) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._not_ready(timeout)
                bell.wait(left)
        return context

    def updates(self) -> AsyncIterator[X509Context]:
        """Iterate over the context there is, and then each newer one, until the source is closed.

        On asyncio and trio, for any number of tasks; who leaves early has nothing to close. Who is slow misses contexts
        that were replaced meanwhile and never the newest.

        Raises:
            SourceClosedError: the source was closed before.
        """
        self.start()
        return _Updates(self._feed)

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        return self._feed.add_listener(listener)

    # --- beginning and end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to talk to the agent, in the shared thread, and return at once. Again, a no-op.

        Raises:
            SourceClosedError: the source was closed.
        """
        self._feed.start()

    def close(self) -> None:
        """Forget the identity, end the stream, and wait for that, for a moment. Again, a no-op."""
        job = self._feed.close()
        if job is not None and not job.join(CLOSE_TIMEOUT) and not job.runs_here:
            _logger.warning("the stream did not end in time endpoint=%s timeout=%gs", self.endpoint, CLOSE_TIMEOUT)

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop. Is not interrupted by cancellation."""
        job = self._feed.close()
        if job is None:
            return
        bell = AsyncBell()
        job.when_ended(bell.ring)
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            while not job.ended:
                await bell.wait()

    def __enter__(self) -> Self:
        try:
            self.wait(self._ready_timeout)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await self.ready(self._ready_timeout)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _arrived(self, newer_than: X509Context | None) -> X509Context | None:
        if self._feed.closed:
            raise self._closed()
        context, progress = self._feed.context, self._feed.progress
        if context is None and progress.phase is SourcePhase.REFUSED:
            assert isinstance(progress.last_error, WorkloadAPIError)
            raise WorkloadAPIError(progress.last_error.message, progress.last_error.status)
        return None if context is newer_than else context

    def _closed(self) -> SourceClosedError:
        return SourceClosedError("this source of identities is closed; make another one")

    def _not_ready(self, timeout: float | None) -> NotReadyError:
        cause = self._feed.progress.last_error
        within = "yet" if timeout is None else f"within {timeout:g} s"
        why = "it has not answered" if cause is None else str(cause)
        error = NotReadyError(f"no identity from the agent at {self.endpoint} {within}: {why}")
        error.__cause__ = cause
        return error


class _Updates:
    """What `X509Source.updates` returns: no generator, for those must be closed by whoever leaves them early."""

    def __init__(self, feed: X509Feed) -> None:
        self._feed = feed
        self._seen: X509Context | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> X509Context:
        feed = self._feed
        bell = AsyncBell()
        with feed.bells.hung_up(bell):
            while not feed.closed:
                context = feed.context
                if context is not None and context is not self._seen:
                    self._seen = context
                    return context
                await bell.wait()
        raise StopAsyncIteration
