"""Event loops in threads of their own, which notice a task left behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from integration_contract.census import descriptors

T = TypeVar("T")


class LoopThread:
    """asyncio, uvloop or trio in a thread: `run(coroutine function, *args)` blocks for what it returns."""

    def __init__(self, loop: str) -> None:
        options = {"use_uvloop": True} if loop == "uvloop" else None
        self._asyncio = loop != "trio"
        self._starting = start_blocking_portal("trio" if loop == "trio" else "asyncio", options)
        self._tasks = 0
        self._sockets = 0

    def __enter__(self) -> Self:
        self.portal: BlockingPortal = self._starting.__enter__()
        self._tasks = self._count()
        self._sockets = self.portal.call(self._watched)
        return self

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        return self.portal.call(function, *args)

    def enter(self, manager: Any) -> Any:
        """Enter an asynchronous context manager, left when the thread ends; returns what it gives."""
        stack = AsyncExitStack()
        self._stacks = [*getattr(self, "_stacks", []), stack]
        return self.portal.call(stack.enter_async_context, manager)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for stack in reversed(getattr(self, "_stacks", [])):
                self.portal.call(stack.aclose)
            deadline = time.monotonic() + 5
            while (left := self._count() - self._tasks) > 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            # Loops close TLS connections some turns after they are told to: an application's loop has those turns.
            deadline = time.monotonic() + 1
            while self.portal.call(self._watched) > self._sockets and time.monotonic() < deadline:
                time.sleep(0.01)
            self.portal.call(anyio.sleep, 0.01)
        finally:
            self._starting.__exit__(None, None, None)
        if error is None:
            assert left <= 0, f"{left} tasks left behind"

    async def _watched(self) -> int:
        """Count what the loop waits for; where it does not tell, every socket of the process."""
        selector = getattr(asyncio.get_running_loop(), "_selector", None) if self._asyncio else None
        if selector is not None:
            return len(selector.get_map())
        return descriptors()["socket"]

    def _count(self) -> int:
        if not self._asyncio:
            return 0  # trio ends no scope before its tasks

        async def count() -> int:
            return len(asyncio.all_tasks())

        return self.portal.call(count)
