"""One stream of X.509 contexts, kept open in the shared thread, and what it has brought so far."""

import logging
import weakref
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from authsec_sdk.errors import SourceClosedError, SpiffeError
from authsec_sdk.spiffe import X509Context, X509ContextListener
from authsec_sdk.workloadapi.address import Endpoint, TCPEndpoint
from authsec_sdk.workloadapi.bell import Bells
from authsec_sdk.workloadapi.connection import open_channel
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.report import Reporter
from authsec_sdk.workloadapi.status import Progress, SourcePhase
from authsec_sdk.workloadapi.stream import Rejected, x509_updates
from authsec_sdk.workloadapi.thread import Job, start_job
from authsec_sdk.workloadapi.watch import Call, Connecting, Lost, Received, watch
from authsec_sdk.workloadapi.wire import X509Update

__all__ = ["X509Feed"]

_PHASES = {
    FailureKind.UNAVAILABLE: SourcePhase.UNAVAILABLE,
    FailureKind.NO_IDENTITY: SourcePhase.NO_IDENTITY,
    FailureKind.REFUSED: SourcePhase.REFUSED,
}
_logger = logging.getLogger(__name__)


class X509Feed:
    """Written by the shared thread, read by everybody else: each attribute is replaced whole, so reads need no lock.

    `choose` puts the SVID to use first, or raises a SpiffeError. It runs in the thread.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        choose: Callable[[X509Context], X509Context],
        *,
        limits: UpdateLimits,
        expected_agent_uid: int | None,
    ) -> None:
        self._endpoint = endpoint
        self._choose = choose
        self._limits = limits
        self._expected_agent_uid = expected_agent_uid
        self._job: Job | None = None
        self._listeners: tuple[X509ContextListener, ...] = ()
        self.context: X509Context | None = None
        self.progress = Progress()
        self.closed = False
        self.bells = Bells()
        _FEEDS.add(self)

    @property
    def running(self) -> bool:
        """Whether the thread works on it. Not so before the start, after the end, and in a forked child."""
        job = self._job
        return job is not None and not job.ended

    def start(self) -> None:
        """Open the stream, in the thread. Again, a no-op.

        Raises:
            SourceClosedError: it was closed.
        """
        with at_fork.lock:
            if self.closed:
                raise SourceClosedError("this source of identities is closed; make another one")
            if self.running:
                return
            self._job = start_job(self._run)
        if isinstance(self._endpoint, TCPEndpoint):
            _logger.warning("private keys travel in plain text from the agent endpoint=%s", self._endpoint)

    def close(self) -> Job | None:
        """Forget everything and ask for the end of the stream; returns what can be waited for. Again, the same."""
        with at_fork.lock:
            self.closed = True
            self.context = None
            self._listeners = ()
            job = self._job
        if job is not None:
            job.stop()
        self.bells.ring()
        return job

    def add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        """Call back in the thread with each new context; returns what ends that."""

        def entry(context: X509Context) -> None:  # an object of this call, so that only it is removed
            listener(context)

        def remove() -> None:
            with at_fork.lock:
                self._listeners = tuple(known for known in self._listeners if known is not entry)

        with at_fork.lock:
            if not self.closed:
                self._listeners = (*self._listeners, entry)
        return remove

    def forked(self) -> None:
        """In a forked child: the thread and those who waited are in the parent. What was known is kept."""
        self._job = None
        self.bells.forget()
        self.progress = replace(self.progress, phase=SourcePhase.NEW, attempts=0)

    # --- in the thread ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        reporter = Reporter(self._endpoint)
        call = Call(
            self._endpoint,
            lambda: open_channel(self._endpoint, self._limits, self._expected_agent_uid),
            lambda channel: x509_updates(channel, self._limits),
        )
        async with aclosing(watch(call)) as events:
            async for event in events:
                match event:
                    case Connecting(attempt):
                        self.progress = replace(self.progress, phase=SourcePhase.CONNECTING, attempts=attempt)
                    case Received(update):
                        self._take(update, reporter)
                    case Rejected(error):
                        self._refuse(error, reporter)
                    case Lost():
                        self._lost(event, reporter)

    def _take(self, update: X509Update, reporter: Reporter) -> None:
        try:
            context = self._choose(update.context)
        except SpiffeError as error:
            self._refuse(error.with_traceback(None), reporter)
            return
        reporter.updated(update.problems)
        with at_fork.delayed():
            self._publish(context, update.problems)
        self.bells.ring()

    def _publish(self, context: X509Context, problems: tuple[SpiffeError, ...]) -> None:
        with at_fork.lock:
            changed = context != self.context
            if self.closed:
                return
            self.progress = replace(
                self.progress,
                phase=SourcePhase.CONNECTED,
                failures=0,
                updates=self.progress.updates + changed,
                last_update=datetime.now(UTC),
                problems=problems,
            )
            if not changed:
                return
            self.context = context
            listeners = self._listeners
        for listener in listeners:
            try:
                listener(context)
            except Exception:
                _logger.exception("a new identity could not be taken by a TLS context, which keeps its old one")

    def _refuse(self, error: SpiffeError, reporter: Reporter) -> None:
        reporter.rejected(error)
        self._failed(replace(self.progress, phase=SourcePhase.CONNECTED, rejected=self.progress.rejected + 1), error)

    def _lost(self, event: Lost, reporter: Reporter) -> None:
        reporter.lost(event)
        phase = _PHASES[event.failure.kind]
        self._failed(replace(self.progress, phase=phase, failures=event.failures), event.failure.error)

    def _failed(self, progress: Progress, error: SpiffeError) -> None:
        self.progress = replace(progress, last_error=error, last_error_at=datetime.now(UTC))
        self.bells.ring()


_FEEDS: weakref.WeakSet[X509Feed] = weakref.WeakSet()


def _in_child() -> None:
    for feed in tuple(_FEEDS):
        feed.forked()


at_fork.register(lambda: (), _in_child)
