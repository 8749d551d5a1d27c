"""The one daemon thread, with an event loop of its own, in which all sources of the process talk to their agents.

It begins with the first source and ends with the last. A busy or blocked application loop never delays it, and after a
fork the child begins its own.
"""

import asyncio
import logging
import selectors
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress

from authsec_sdk.workloadapi.fork import at_fork

__all__ = ["SOCKETS", "Job", "start_job"]

_GOODBYE_SECONDS = 2.0  # a TLS goodbye to a bundle endpoint takes one second at most

_logger = logging.getLogger(__name__)

SOCKETS: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Connections to agents, which a forked child must not keep. Added to with forks held back (`at_fork.delayed`)."""


class Job:
    """A coroutine that runs in the thread. Who started it ends it with `stop`, and can wait until it has ended."""

    def __init__(self, thread: "_SourceThread") -> None:
        self._thread = thread
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._ended = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def ended(self) -> bool:
        """Whether the coroutine, its clean-up included, is over."""
        return self._ended.is_set()

    @property
    def runs_here(self) -> bool:
        """Whether the caller is in the thread, where it cannot wait for anything that happens there."""
        return threading.current_thread() is self._thread.thread

    def stop(self) -> None:
        """Ask for the end; from any thread, any number of times."""
        with at_fork.lock:
            if self._stopping or self.ended:
                return
            self._stopping = True
            # Under the lock, for the loop closes only after the last job has been taken off the list under it.
            self._thread.loop.call_soon_threadsafe(self._cancel)

    def join(self, timeout: float) -> bool:
        """Block until it has ended, and say whether it has. In the thread itself it cannot and does not wait."""
        return self.ended if self.runs_here else self._ended.wait(timeout)

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call back from the thread at the end, or at once if it is over."""
        with at_fork.lock:
            if not self.ended:
                self._callbacks.append(callback)
                return
        callback()

    def begin(self, main: Callable[[], Coroutine[object, object, None]]) -> None:
        """Make the task; in the thread."""
        self._task = self._thread.loop.create_task(main())
        self._task.add_done_callback(self._end)
        if self._stopping:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a source of identities ended by a defect of its own: no more updates", exc_info=error)
        with at_fork.lock:
            self._ended.set()
            callbacks = self._callbacks
        self._thread.ended(self)
        for callback in callbacks:
            callback()


class _SourceThread:
    def __init__(self) -> None:
        # A selector of our own, so that a forked child can find the descriptors in it.
        self.selector = selectors.DefaultSelector()
        self.loop = asyncio.SelectorEventLoop(self.selector)
        self.thread = threading.Thread(target=self._run, name="authsec-sdk-sources", daemon=True)
        self.jobs: set[Job] = set()

    def ended(self, job: Job) -> None:
        global _current
        with at_fork.lock:
            self.jobs.discard(job)
            if self.jobs:
                return
            if _current is self:
                _current = None
        self.loop.stop()

    def descriptors(self) -> Iterator[int]:
        yield from [key.fd for key in self.selector.get_map().values()]
        if isinstance(self.selector, selectors.EpollSelector if hasattr(selectors, "EpollSelector") else ()):
            yield self.selector.fileno()
        # The writing end of the loop's own wake-up pair; the reading end is in the selector.
        waker: socket.socket | None = getattr(self.loop, "_csock", None)
        if waker is not None:
            yield waker.fileno()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self._goodbyes())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _goodbyes(self) -> None:
        """Let connections that are being closed end: a closed loop would leave them, and their sockets, to nobody."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                # The one that stays is the loop's own wake-up; nothing tells when the others are gone.
                while len(self.selector.get_map()) > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


_current: _SourceThread | None = None
_of_parents: list[object] = []  # what a fork left behind; never finalized, for that would touch its descriptors


def start_job(main: Callable[[], Coroutine[object, object, None]]) -> Job:
    """Run a coroutine in the thread, which is started where there is none."""
    global _current
    with at_fork.lock:
        thread = _current
        if thread is None:
            thread = _SourceThread()
            try:
                thread.thread.start()
            except RuntimeError:
                thread.loop.close()
                raise
            _current = thread
        job = Job(thread)
        thread.jobs.add(job)
        thread.loop.call_soon_threadsafe(job.begin, main)
    return job


def _inherited() -> Iterator[int]:
    for connection in tuple(SOCKETS):
        descriptor = connection.fileno()
        if descriptor >= 0:
            yield descriptor
    if _current is not None:
        yield from _current.descriptors()


def _forget() -> None:
    global _current
    _of_parents.append((_current, tuple(SOCKETS)))
    SOCKETS.clear()
    _current = None


at_fork.register(_inherited, _forget)
