"""Wait for contexts, on asyncio, on trio and in threads: what all sources of X.509 contexts have in common."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self

import anyio

from authsec_sdk.errors import NotReadyError, SourceClosedError, WorkloadAPIError
from authsec_sdk.spiffe import X509Context, X509ContextListener
from authsec_sdk.workloadapi.bell import AsyncBell, Bells, ThreadBell
from authsec_sdk.workloadapi.status import Progress, SourcePhase
from authsec_sdk.workloadapi.thread import Job

__all__ = ["READY_TIMEOUT", "ContextFeed", "WaitingSource"]

READY_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0

_logger = logging.getLogger(__name__)


class ContextFeed(Protocol):
    """What brings contexts, in the shared thread. Its attributes are replaced whole, so reads need no lock."""

    @property
    def context(self) -> X509Context | None:
        """The newest context; None before the first and after the end."""
        ...

    @property
    def progress(self) -> Progress:
        """What the feed has seen so far."""
        ...

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        ...

    @property
    def running(self) -> bool:
        """Whether the thread works on it."""
        ...

    @property
    def bells(self) -> Bells:
        """Rung after every change of the above."""
        ...

    def start(self) -> None:
        """Begin; again, a no-op. SourceClosedError after the end."""
        ...

    def close(self) -> Job | None:
        """Forget everything; returns what can be waited for."""
        ...

    def add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        """Call back in the thread with each new context; returns what ends that."""
        ...


class WaitingSource:
    """A source of contexts over a feed: read without blocking, waited for from everywhere. For subclasses.

    `wanted` and `silence` make the sentence of NotReadyError: what is waited for, and why nothing is known yet.
    """

    def __init__(self, feed: ContextFeed, ready_timeout: float | None, *, wanted: str, silence: str) -> None:
        self.__feed = feed
        self.__ready_timeout = ready_timeout
        self.__wanted = wanted
        self.__silence = silence

    @property
    def x509_context(self) -> X509Context:
        """The newest context; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none has arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        feed = self.__feed
        if not feed.running:
            feed.start()
        context = feed.context
        if context is None:
            raise self._closed() if feed.closed else self._not_ready(None)
        return context

    async def ready(self, timeout: float | None = None) -> X509Context:
        """Wait until there is a context, and return it; on asyncio and trio, for any number of tasks.

        Raises:
            NotReadyError: not within `timeout` seconds; the last failure is the cause and in the text.
            WorkloadAPIError: the agent does not take the call. The source goes on trying, and one may wait again.
            SourceClosedError: the source was closed.
        """
        self.start()
        bell = AsyncBell()
        with anyio.move_on_after(timeout), self.__feed.bells.hung_up(bell):
            while (context := self._arrived(None)) is None:
                await bell.wait()
            return context
        raise self._not_ready(timeout)

    def wait(self, timeout: float | None = None, *, newer_than: X509Context | None = None) -> X509Context:
        """Block this thread until there is a context, or another one than `newer_than`, and return it.

        Raises: as `ready`, which is what tasks use instead: this blocks their event loop.
        """
        self.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        bell = ThreadBell()
        with self.__feed.bells.hung_up(bell):
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
        return _Updates(self.__feed)

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        return self.__feed.add_listener(listener)

    # --- beginning and end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, in the shared thread, and return at once. Again, a no-op.

        Raises:
            SourceClosedError: the source was closed.
        """
        self.__feed.start()

    def close(self) -> None:
        """Forget the context, end the work in the thread, and wait for that, for a moment. Again, a no-op."""
        job = self.__feed.close()
        if job is not None and not job.join(CLOSE_TIMEOUT) and not job.runs_here:
            _logger.warning("a source did not end in time source=%r timeout=%gs", self, CLOSE_TIMEOUT)

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop. Is not interrupted by cancellation."""
        job = self.__feed.close()
        if job is None:
            return
        bell = AsyncBell()
        job.when_ended(bell.ring)
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            while not job.ended:
                await bell.wait()

    def __enter__(self) -> Self:
        try:
            self.wait(self.__ready_timeout)
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
            await self.ready(self.__ready_timeout)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _arrived(self, newer_than: X509Context | None) -> X509Context | None:
        if self.__feed.closed:
            raise self._closed()
        context, progress = self.__feed.context, self.__feed.progress
        if context is None and progress.phase is SourcePhase.REFUSED:
            assert isinstance(progress.last_error, WorkloadAPIError)
            raise WorkloadAPIError(progress.last_error.message, progress.last_error.status)
        return None if context is newer_than else context

    def _closed(self) -> SourceClosedError:
        return SourceClosedError("this source of identities is closed; make another one")

    def _not_ready(self, timeout: float | None) -> NotReadyError:
        cause = self.__feed.progress.last_error
        within = "yet" if timeout is None else f"within {timeout:g} s"
        why = self.__silence if cause is None else str(cause)
        error = NotReadyError(f"no {self.__wanted} {within}: {why}")
        error.__cause__ = cause
        return error


class _Updates:
    """What `updates` returns: no generator, for those must be closed by whoever leaves them early."""

    def __init__(self, feed: ContextFeed) -> None:
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
