"""Being a daemon: runs the main coroutine, stops it in good order on SIGTERM, hides memory, tells systemd."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4
_UMASK = 0o027
_GARBAGE_AFTER = 10_000
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Service:
    """What a running daemon's main coroutine has of its surroundings."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether the daemon was asked to stop."""
        return self._stopping.is_set()

    async def stopped(self) -> None:
        """Wait until the daemon is asked to stop; then end what runs, in order, and return from main."""
        await self._stopping.wait()

    def stop(self) -> None:
        """Ask the daemon to stop, as SIGTERM does."""
        if not self._stopping.is_set():
            notify("STOPPING=1")
            self._stopping.set()

    def ready(self, status: str = "") -> None:
        """Tell systemd that the daemon serves; what is in memory by now is not searched for garbage again."""
        gc.collect()
        gc.freeze()
        # Calls leave few cycles behind, so looking for them after every 700 objects is mostly for nothing.
        gc.set_threshold(_GARBAGE_AFTER, *gc.get_threshold()[1:])
        notify("READY=1", *([f"STATUS={status}"] if status else []))


def run(main: Callable[[Service], Awaitable[int]]) -> int:
    """Run `main` as a daemon and give its exit code.

    The first SIGINT or SIGTERM asks it to stop, the second cancels it (exit code 130 or 143). Before anything runs,
    memory is hidden from other processes of our user and the umask is at least 027.
    """
    hide_memory()
    os.umask(os.umask(_UMASK) | _UMASK)
    return asyncio.run(_supervise(main))


def hide_memory() -> None:
    """No core dumps, no ptrace and no /proc/PID/{mem,fd,…} for other processes of the same user (keys live here).

    Root still sees all. Children that execute another program are as they would have been. On kernels without prctl
    only core dumps are off.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        _log.warning("this system has no prctl: other processes of this user can read this daemon's memory")
        return
    # prctl takes longs behind its first argument; on some systems the upper half of an int would be garbage.
    if prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(value) for value in (0, 0, 0, 0))) != 0:
        _log.warning("cannot hide memory from other processes of this user; error=%s", os.strerror(ctypes.get_errno()))


def notify(*lines: str) -> None:
    """Tell systemd, if it started us with `Type=notify` (sd_notify); failures are its business and are passed over."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(lines).encode(), target)


async def _supervise(main: Callable[[Service], Awaitable[int]]) -> int:
    service = Service()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(service))
    killed_by: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        if service.stopping:
            _log.warning("received another signal: stopping at once; signal=%s", number.name)
            killed_by.append(number)
            task.cancel()
        else:
            _log.info("received a signal: stopping; signal=%s", number.name)
            service.stop()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if killed_by:
            return 128 + killed_by[0]
        raise
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
