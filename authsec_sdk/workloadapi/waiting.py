"""Wait for values, on asyncio, on trio and in threads: what all sources have in common, whatever they bring."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Generic, NoReturn, Self, TypeVar

import anyio

from authsec_sdk.errors import NotReadyError, SourceClosedError, WorkloadAPIError
from authsec_sdk.spiffe import X509Context, X509ContextListener
from authsec_sdk.telemetry import Observer
from authsec_sdk.workloadapi.bell import AsyncBell, ThreadBell
from authsec_sdk.workloadapi.feed import Feed
from authsec_sdk.workloadapi.status import SourcePhase
from authsec_sdk.workloadapi.thread import Job

__all__ = ["READY_TIMEOUT", "ContextSource", "WaitingSource"]

READY_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0

_logger = logging.getLogger(__name__)
_Value = TypeVar("_Value")


class WaitingSource(Generic[_Value]):
    """A source over a feed: read without blocking, waited for from everywhere. For subclasses.

    `wanted` and `silence` make the sentence of NotReadyError: what is waited for, and why nothing is known yet.
    """

    def __init__(self, feed: Feed[_Value], ready_timeout: float | None, *, wanted: str, silence: str) -> None:
        self.__feed = feed
        self.__ready_timeout = ready_timeout
        self.__wanted = wanted
        self.__silence = silence

    @property
    def observer(self) -> Observer | None:
        """Who hears of this source, and of the TLS contexts over it."""
        return self.__feed.observer

    def _newest(self) -> _Value:
        """Return the newest value; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none has arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        feed = self.__feed
        if not feed.running:
            self.start()
        value = feed.value
        if value is None:
            raise self._closed() if feed.closed else self._not_ready(None)
        return value

    async def ready(self, timeout: float | None = None, *, newer_than: _Value | None = None) -> _Value:
        """Wait until there is a value, or another one than `newer_than`, and return it.

        On asyncio and trio, for any number of tasks.

        Raises:
            NotReadyError: not within `timeout` seconds; the last failure is the cause and in the text.
            WorkloadAPIError: the agent does not take the call. The source goes on trying, and one may wait again.
            SourceClosedError: the source was closed.
        """
        self.start()
        bell = AsyncBell()
        with anyio.move_on_after(timeout), self.__feed.bells.hung_up(bell):
            while (value := self._arrived(newer_than)) is None:
                await bell.wait()
            return value
        raise self._not_ready(timeout)

    def wait(self, timeout: float | None = None, *, newer_than: _Value | None = None) -> _Value:
        """Block this thread until there is a value, or another one than `newer_than`, and return it.

        Raises: as `ready`, which is what tasks use instead: this blocks their event loop.
        """
        self.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        bell = ThreadBell()
        with self.__feed.bells.hung_up(bell):
            while (value := self._arrived(newer_than)) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._not_ready(timeout)
                bell.wait(left)
        return value

    def updates(self) -> AsyncIterator[_Value]:
        """Iterate over the value there is, and then each newer one, until the source is closed.

        On asyncio and trio, for any number of tasks; who leaves early has nothing to close. Who is slow misses values
        that were replaced meanwhile and never the newest.

        Raises:
            SourceClosedError: the source was closed before.
        """
        self.start()
        return _Updates(self.__feed)

    # --- beginning and end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, in the shared thread, and return at once. Again, a no-op.

        Raises:
            SourceClosedError: the source was closed.
        """
        self.__feed.start()

    def close(self) -> None:
        """Forget everything, end the work in the thread, and wait for that, for a moment. Again, a no-op."""
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for job in self._end():
            if not job.join(max(0.0, deadline - time.monotonic())) and not job.runs_here:
                _logger.warning("a source did not end in time source=%r timeout=%gs", self, CLOSE_TIMEOUT)

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop. Is not interrupted by cancellation."""
        jobs = self._end()
        if not jobs:
            return
        bell = AsyncBell()
        for job in jobs:
            job.when_ended(bell.ring)
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            while not all(job.ended for job in jobs):
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

    def __reduce__(self) -> NoReturn:
        raise TypeError("a source is not pickled: another process has an identity of its own, so make one there")

    def _end(self) -> tuple[Job, ...]:
        """Ask for the end of all that runs for this source; returns what can be waited for."""
        job = self.__feed.close()
        return () if job is None else (job,)

    def _arrived(self, newer_than: _Value | None) -> _Value | None:
        if self.__feed.closed:
            raise self._closed()
        value, progress = self.__feed.value, self.__feed.progress
        if value is None and progress.phase is SourcePhase.REFUSED:
            assert isinstance(progress.last_error, WorkloadAPIError)
            raise WorkloadAPIError(progress.last_error.message, progress.last_error.status)
        return None if value is newer_than else value

    def _closed(self) -> SourceClosedError:
        return SourceClosedError("this source is closed; make another one")

    def _not_ready(self, timeout: float | None) -> NotReadyError:
        cause = self.__feed.progress.last_error
        within = "yet" if timeout is None else f"within {timeout:g} s"
        why = self.__silence if cause is None else str(cause)
        error = NotReadyError(f"no {self.__wanted} {within}: {why}")
        error.__cause__ = cause
        return error


class ContextSource(WaitingSource[X509Context]):
    """A source of X.509 contexts, as TLS contexts take it (`authsec_sdk.spiffe.X509ContextSource`)."""

    def __init__(self, feed: Feed[X509Context], ready_timeout: float | None, *, wanted: str, silence: str) -> None:
        super().__init__(feed, ready_timeout, wanted=wanted, silence=silence)
        self.__feed = feed

    @property
    def x509_context(self) -> X509Context:
        """The newest context; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none has arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        return self._newest()

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        return self.__feed.add_listener(listener)


class _Updates(Generic[_Value]):
    """What `updates` returns: no generator, for those must be closed by whoever leaves them early."""

    def __init__(self, feed: Feed[_Value]) -> None:
        self._feed = feed
        self._seen: _Value | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Value:
        feed = self._feed
        bell = AsyncBell()
        with feed.bells.hung_up(bell):
            while not feed.closed:
                value = feed.value
                if value is not None and value is not self._seen:
                    self._seen = value
                    return value
                await bell.wait()
        raise StopAsyncIteration
