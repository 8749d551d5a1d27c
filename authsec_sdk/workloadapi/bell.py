"""Wake whoever waits, from another thread, without waiting for them: tasks of asyncio and trio, and threads."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio

from authsec_sdk.workloadapi.fork import at_fork

__all__ = ["AsyncBell", "Bells", "ThreadBell"]


class AsyncBell:
    """Rings in the event loop (asyncio's or trio's) in which it was made. A ring while nobody waits is kept."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._call_soon = _call_soon()

    def ring(self) -> None:
        """Wake the task; from any thread, without blocking. A loop that is gone wakes nobody."""
        try:
            self._call_soon(self._set)
        except RuntimeError:  # asyncio: the loop is closed; trio.RunFinishedError is one as well
            return

    async def wait(self) -> None:
        """Wait for the next ring, or return at once if there was one since the last wait."""
        await self._event.wait()
        self._event = anyio.Event()

    def _set(self) -> None:
        self._event.set()


class ThreadBell:
    """Rings for one waiting thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake the thread."""
        self._event.set()

    def wait(self, timeout: float | None) -> None:
        """Wait for the next ring, or return at once if there was one since the last wait, or after the timeout."""
        self._event.wait(timeout)
        self._event.clear()


class Bells:
    """The bells of all who wait for news of one source."""

    def __init__(self) -> None:
        self._bells: set[AsyncBell | ThreadBell] = set()

    @contextmanager
    def hung_up(self, bell: AsyncBell | ThreadBell) -> Iterator[None]:
        """Ring this bell, too, while the block lasts. Look at the state inside, then wait: nothing is lost."""
        with at_fork.lock:
            self._bells.add(bell)
        try:
            yield
        finally:
            with at_fork.lock:
                self._bells.discard(bell)

    def ring(self) -> None:
        """Wake everybody, after the state they look at was changed."""
        with at_fork.lock:
            bells = tuple(self._bells)
        for bell in bells:
            bell.ring()

    def forget(self) -> None:
        """Drop all bells: in a forked child nobody waits any more."""
        self._bells = set()


def _call_soon() -> Callable[[Callable[[], None]], Any]:
    """How another thread has something called in the running loop. Trio first: as a guest it runs inside asyncio."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass
        else:
            run_sync_soon: Callable[[Callable[[], None]], Any] = token.run_sync_soon
            return run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe
