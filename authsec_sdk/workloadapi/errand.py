"""One question to the agent, asked in the shared thread, for all tasks and threads that wait for the answer."""

import copy
import time
from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

import anyio

from authsec_sdk.errors import NotReadyError, SourceClosedError, SpiffeError
from authsec_sdk.workloadapi.bell import AsyncBell, ThreadBell
from authsec_sdk.workloadapi.thread import start_job

__all__ = ["Errand"]

_Answer = TypeVar("_Answer")


class Errand(Generic[_Answer]):
    """Runs from when it is made. Who waits may leave; the errand goes on for the others, and for who asks next."""

    def __init__(self, what: str, main: Callable[[], Coroutine[object, object, _Answer]]) -> None:
        self._what = what
        self._main = main
        self._answers: list[_Answer] = []
        self._error: SpiffeError | None = None
        self.job = start_job(self._run)

    async def arrived(self, timeout: float | None) -> _Answer:
        """Wait for the answer in a task, on asyncio or trio.

        Raises:
            NotReadyError: it did not come within `timeout` seconds.
            SourceClosedError: the source was closed meanwhile.
            SpiffeError: what the errand met.
        """
        bell = AsyncBell()
        self.job.when_ended(bell.ring)
        with anyio.move_on_after(timeout):
            while not self.job.ended:
                await bell.wait()
        return self._answer(timeout)

    def wait(self, timeout: float | None) -> _Answer:
        """Wait for the answer in a thread. Raises as `arrived`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        bell = ThreadBell()
        self.job.when_ended(bell.ring)
        while not self.job.ended and (deadline is None or time.monotonic() < deadline):
            bell.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self._answer(timeout)

    async def _run(self) -> None:
        try:
            self._answers.append(await self._main())
        except SpiffeError as error:
            self._error = error.with_traceback(None)

    def _answer(self, timeout: float | None) -> _Answer:
        if self._answers:
            return self._answers[0]
        if self._error is not None:
            raise copy.copy(self._error)  # one for each who waits: raising writes a traceback into it
        if self.job.ended:
            raise SourceClosedError(f"the source was closed while it waited for {self._what}")
        raise NotReadyError(f"no {self._what} from the agent within {timeout:g} s")
