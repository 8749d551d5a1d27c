"""Look at a folder again and again, in the shared thread, and publish what it holds whenever that is a new whole."""

import asyncio
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from authsec_sdk.errors import SourceClosedError, SpiffeError
from authsec_sdk.filesource.folder import Fingerprint, Folder
from authsec_sdk.spiffe import X509Context, X509ContextHolder, X509ContextListener
from authsec_sdk.workloadapi.bell import Bells
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.repeats import Repeats
from authsec_sdk.workloadapi.status import Progress, SourcePhase
from authsec_sdk.workloadapi.thread import Job, start_job

__all__ = ["FileFeed", "retry_after"]

FIRST_RETRY = 0.02

_logger = logging.getLogger(__name__)


def retry_after(failures: int, interval: float) -> float:
    """Return how long to wait after so many looks in a row (from 1) at one state of the files that is not whole."""
    return min(interval, FIRST_RETRY * 2.0 ** min(failures - 1, 30))


class FileFeed:
    """Written by the shared thread, read by everybody else: each attribute is replaced whole, so reads need no lock."""

    def __init__(self, folder: Folder, interval: float) -> None:
        self._folder = folder
        self._interval = interval
        self._holder = X509ContextHolder()
        self._job: Job | None = None
        self._good: Fingerprint | None = None
        self._bad: Fingerprint | None = None
        self._repeats = Repeats()
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
        """Begin to look, in the thread. Again, a no-op.

        Raises:
            SourceClosedError: it was closed.
        """
        with at_fork.lock:
            if self.closed:
                raise SourceClosedError("this source of identities is closed; make another one")
            if not self.running:
                self._job = start_job(self._run)

    def close(self) -> Job | None:
        """Forget everything and ask for the end; returns what can be waited for. Again, the same."""
        with at_fork.lock:
            self.closed = True
            self.context = None
            job = self._job
        self._holder.close()
        if job is not None:
            job.stop()
        self.bells.ring()
        return job

    def add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        """Call back in the thread with each new context; returns what ends that."""
        return self._holder._add_listener(listener)

    def forked(self) -> None:
        """In a forked child: the thread and those who waited are in the parent. What was known is kept."""
        self._job = None
        self.bells.forget()
        self.progress = replace(self.progress, phase=SourcePhase.NEW)

    # --- in the thread ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            with at_fork.delayed():  # a child inherits no open key file, and no lock of OpenSSL half way
                wait = self._look()
            self.bells.ring()
            await asyncio.sleep(wait)

    def _look(self) -> float:
        fingerprint = self._folder.fingerprint()
        if fingerprint == self._good and self.progress.failures == 0:
            return self._interval
        try:
            context, self._good = self._folder.load()
        except SpiffeError as error:
            again = fingerprint == self._bad
            self._bad = fingerprint
            return self._failed(error.with_traceback(None), again=again)
        self._publish(context)
        return self._interval

    def _failed(self, error: SpiffeError, *, again: bool) -> float:
        failures = self.progress.failures + 1 if again else 1
        count = self._repeats.note(str(error))
        _logger.log(
            logging.DEBUG if count is None else logging.WARNING,
            "the files are not one whole, keeping what was known: %s folder=%s times=%s",
            error,
            self._folder.path,
            count or "more",
        )
        self.progress = replace(
            self.progress,
            phase=SourcePhase.UNAVAILABLE,
            failures=failures,
            rejected=self.progress.rejected + (not again),
            last_error=error,
            last_error_at=datetime.now(UTC),
        )
        return retry_after(failures, self._interval)

    def _publish(self, context: X509Context) -> None:
        if self._repeats.clear():
            _logger.info("the files are one whole again folder=%s", self._folder.path)
        with at_fork.lock:
            if self.closed:
                return
            changed = context != self.context
            self._bad = None
            self.progress = replace(
                self.progress,
                phase=SourcePhase.CONNECTED,
                failures=0,
                updates=self.progress.updates + changed,
                last_update=datetime.now(UTC),
            )
            if not changed:
                return
            self.context = context
        try:
            self._holder.publish(context)
        except SourceClosedError:  # meanwhile
            return
        except ExceptionGroup:
            _logger.exception("a new identity could not be taken by a TLS context, which keeps its old one")


_FEEDS: weakref.WeakSet[FileFeed] = weakref.WeakSet()


def _in_child() -> None:
    for feed in tuple(_FEEDS):
        feed.forked()


at_fork.register(lambda: (), _in_child)
