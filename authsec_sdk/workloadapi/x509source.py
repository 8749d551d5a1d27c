"""The identity of this process, always the newest: fetched by one thread, read from everywhere without blocking."""

import logging
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel

from authsec_sdk.errors import CallerError, NotReadyError, SourceClosedError, SpiffeError, WorkloadAPIError
from authsec_sdk.spiffe import X509Context, X509ContextListener
from authsec_sdk.workloadapi.address import Endpoint, TCPEndpoint, resolve_endpoint
from authsec_sdk.workloadapi.bell import AsyncBell, Bells, ThreadBell
from authsec_sdk.workloadapi.choice import SVIDPicker, choose
from authsec_sdk.workloadapi.connection import open_channel
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.report import Reporter
from authsec_sdk.workloadapi.status import Progress, SourcePhase, SourceStatus
from authsec_sdk.workloadapi.stream import Rejected, x509_updates
from authsec_sdk.workloadapi.thread import Job, start_job
from authsec_sdk.workloadapi.watch import Call, Connecting, Lost, Received, watch
from authsec_sdk.workloadapi.wire import X509Update

__all__ = ["X509Source"]

READY_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0

_PHASES = {
    FailureKind.UNAVAILABLE: SourcePhase.UNAVAILABLE,
    FailureKind.NO_IDENTITY: SourcePhase.NO_IDENTITY,
    FailureKind.REFUSED: SourcePhase.REFUSED,
}
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
        self._picker = svid_picker
        self._hint = hint
        self._ready_timeout = ready_timeout
        self._expected_agent_uid = expected_agent_uid
        self._limits = limits or UpdateLimits()
        self._context: X509Context | None = None  # one store publishes it, so reads need no lock
        self._progress = Progress()
        self._job: Job | None = None
        self._closed = False
        self._bells = Bells()
        self._listeners: tuple[X509ContextListener, ...] = ()
        _SOURCES.add(self)

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
        if self._job is None or self._job.ended:
            self.start()
        context = self._context
        if context is None:
            raise self._not_ready(None)
        return context

    @property
    def status(self) -> SourceStatus:
        """How the source is doing now. Never blocks, never raises, starts nothing."""
        progress, context = self._progress, self._context
        svid = None if context is None else context.svid
        now = datetime.now(UTC)
        return SourceStatus(
            endpoint=self.endpoint,
            phase=SourcePhase.CLOSED if self._closed else progress.phase,
            healthy=svid is not None and not svid.is_expired(now) and not self._closed,
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
        with anyio.move_on_after(timeout), self._bells.hung_up(bell):
            await anyio.lowlevel.checkpoint()
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
        with self._bells.hung_up(bell):
            while (context := self._arrived(newer_than)) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._not_ready(timeout)
                bell.wait(left)
        return context

    async def updates(self) -> AsyncGenerator[X509Context, None]:
        """Yield the context there is, and then each newer one, until the source is closed; on asyncio and trio.

        Who is slow misses contexts that were replaced meanwhile and never the newest. Any number of tasks may do this.

        Raises:
            SourceClosedError: the source was closed before.
        """
        self.start()
        bell = AsyncBell()
        seen: X509Context | None = None
        while True:
            with self._bells.hung_up(bell):
                while not self._closed and self._context is seen:
                    await bell.wait()
            context = self._context
            if self._closed:
                return
            if context is not None:
                seen = context
                yield context

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        def entry(context: X509Context) -> None:  # an object of this call, so that only it is removed
            listener(context)

        def remove() -> None:
            with at_fork.lock:
                self._listeners = tuple(known for known in self._listeners if known is not entry)

        with at_fork.lock:
            if not self._closed:
                self._listeners = (*self._listeners, entry)
        return remove

    # --- beginning and end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to talk to the agent, in the shared thread, and return at once. Again, a no-op.

        Raises:
            SourceClosedError: the source was closed.
        """
        with at_fork.lock:
            if self._closed:
                raise SourceClosedError("this X509Source is closed; make another one")
            if self._job is not None and not self._job.ended:
                return
            self._job = start_job(self._run)
        if isinstance(self.endpoint, TCPEndpoint):
            _logger.warning("private keys travel in plain text from the agent endpoint=%s", self.endpoint)

    def close(self) -> None:
        """Forget the identity, end the stream, and wait for that, for a moment. Again, a no-op."""
        job = self._close()
        if job is not None and not job.join(CLOSE_TIMEOUT) and not job.runs_here:
            _logger.warning("the stream did not end in time endpoint=%s timeout=%gs", self.endpoint, CLOSE_TIMEOUT)

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop. Is not interrupted by cancellation."""
        job = self._close()
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

    def _close(self) -> Job | None:
        with at_fork.lock:
            self._closed = True
            self._context = None
            self._listeners = ()
            job = self._job
        if job is not None:
            job.stop()
        self._bells.ring()
        return job

    def _arrived(self, newer_than: X509Context | None) -> X509Context | None:
        if self._closed:
            raise SourceClosedError("this X509Source is closed; make another one")
        context, progress = self._context, self._progress
        if context is None and progress.phase is SourcePhase.REFUSED:
            assert isinstance(progress.last_error, WorkloadAPIError)
            raise WorkloadAPIError(progress.last_error.message, progress.last_error.status)
        return None if context is newer_than else context

    def _not_ready(self, timeout: float | None) -> NotReadyError:
        cause = self._progress.last_error
        within = "yet" if timeout is None else f"within {timeout:g} s"
        why = "it has not answered" if cause is None else str(cause)
        error = NotReadyError(f"no identity from the agent at {self.endpoint} {within}: {why}")
        error.__cause__ = cause
        return error

    # --- in the shared thread --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        reporter = Reporter(self.endpoint)
        call = Call(
            self.endpoint,
            lambda: open_channel(self.endpoint, self._limits, self._expected_agent_uid),
            lambda channel: x509_updates(channel, self._limits),
        )
        async with aclosing(watch(call)) as events:
            async for event in events:
                match event:
                    case Connecting(attempt):
                        self._progress = replace(self._progress, phase=SourcePhase.CONNECTING, attempts=attempt)
                    case Received(update):
                        self._take(update, reporter)
                    case Rejected(error):
                        self._refuse(error, reporter)
                    case Lost():
                        self._lost(event, reporter)

    def _take(self, update: X509Update, reporter: Reporter) -> None:
        try:
            context = choose(update.context, self._picker, self._hint)
        except SpiffeError as error:
            self._refuse(error.with_traceback(None), reporter)
            return
        reporter.updated(update.problems)
        with at_fork.delayed():
            self._publish(context, update.problems)
        self._bells.ring()

    def _publish(self, context: X509Context, problems: tuple[SpiffeError, ...]) -> None:
        with at_fork.lock:
            changed = context != self._context
            if self._closed:
                return
            self._progress = replace(
                self._progress,
                phase=SourcePhase.CONNECTED,
                failures=0,
                updates=self._progress.updates + changed,
                last_update=datetime.now(UTC),
                problems=problems,
            )
            if not changed:
                return
            self._context = context
            listeners = self._listeners
        for listener in listeners:
            try:
                listener(context)
            except Exception:
                _logger.exception("a new identity could not be taken by a TLS context, which keeps its old one")

    def _refuse(self, error: SpiffeError, reporter: Reporter) -> None:
        reporter.rejected(error)
        self._failed(replace(self._progress, phase=SourcePhase.CONNECTED, rejected=self._progress.rejected + 1), error)

    def _lost(self, event: Lost, reporter: Reporter) -> None:
        reporter.lost(event)
        phase = _PHASES[event.failure.kind]
        self._failed(replace(self._progress, phase=phase, failures=event.failures), event.failure.error)

    def _failed(self, progress: Progress, error: SpiffeError) -> None:
        self._progress = replace(progress, last_error=error, last_error_at=datetime.now(UTC))
        self._bells.ring()

    def _forked(self) -> None:
        """In a forked child: the parent's thread and waiters are not here."""
        self._job = None
        self._bells.forget()
        self._progress = replace(self._progress, phase=SourcePhase.NEW, attempts=0)


_SOURCES: weakref.WeakSet[X509Source] = weakref.WeakSet()


def _forked() -> None:
    for source in tuple(_SOURCES):
        source._forked()


at_fork.register(lambda: (), _forked)
