"""The command: started, signalled, restarted and waited for. No zombie stays, and no process is signalled twice."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from authsec_sdk.errors import ConfigurationError

__all__ = ["FORWARDED", "Child", "exit_code"]

FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)
"""The signals that are handed on to the command."""

_FROM_TERMINALS: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH})
_IGNORED_BY_DEFAULT: Final = frozenset({signal.SIGWINCH, signal.SIGCONT, signal.SIGCHLD, signal.SIGURG})
_READY_WITHIN: Final = 10.0
_LOOK_EVERY: Final = 0.02


def exit_code(returncode: int) -> int:
    """Return what a shell would: the command's own code, or 128 and the number of the signal that ended it."""
    return 128 - returncode if returncode < 0 else returncode


class Child:
    """One command, run once at a time. For one asyncio loop in the main thread, whose SIGCHLD is ours.

    Signals, standard streams, environment and process group are those of this process. As process 1 of a container
    this one also takes the ends of processes that lost their parents.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._ended = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended, as far as the kernel told."""
        return self._process is not None and self._process.returncode is None

    @property
    def returncode(self) -> int | None:
        """As `subprocess.Popen.returncode` of the newest process."""
        return None if self._process is None else self._process.returncode

    def start(self) -> int:
        """Start it and return its process number.

        Raises:
            ConfigurationError: it cannot be started.
        """
        self._ended.clear()
        try:
            self._process = subprocess.Popen(self._command)  # noqa: S603 - the operator's own command, with no shell
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(f"cannot run {self._command[0]!r}: {reason}") from None
        self._started = time.monotonic()
        return self._process.pid

    def reap(self) -> None:
        """Take the end of every process that has ended; the handler of SIGCHLD."""
        process = self._process
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                found = None
            if found is None:
                break
            if process is not None and found.si_pid == process.pid:
                process.poll()
            else:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(found.si_pid, os.WNOHANG)
        if process is not None and process.poll() is not None:
            self._ended.set()

    async def ended(self) -> int:
        """Wait for the end of the newest process; return its `returncode`."""
        await self._ended.wait()
        assert self._process is not None
        assert self._process.returncode is not None
        return self._process.returncode

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False when there is nobody to send it to."""
        if not self.running:
            return False
        assert self._process is not None
        try:
            self._process.send_signal(number)
        except OSError:  # it changed its user, and is not ours to signal any more
            return False
        return True

    def forward(self, number: signal.Signals) -> bool:
        """Hand on a signal that we got; one from our terminal has reached the command by itself."""
        if number in _FROM_TERMINALS and _from_our_terminal():
            return self.running
        return self.send(number)

    async def renew(self, number: signal.Signals) -> bool:
        """Send the signal of rotations, once the command listens to it: before, it would only end the command.

        After ten seconds it is sent all the same: who named the signal may mean just that.
        """
        deadline = self._started + _READY_WITHIN
        while self.running and time.monotonic() < deadline and not self._listens(number):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(_LOOK_EVERY)
        return self.send(number)

    async def stop(self, grace: float, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Ask it to end, and end it if it has not after `grace` seconds; return its `returncode`."""
        self.send(number)
        return await self.finish(grace)

    async def finish(self, grace: float) -> int | None:
        """Wait `grace` seconds for its end, then kill it; return its `returncode`, None where it never ran."""
        if self._process is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                return await self.ended()
        self.send(signal.SIGKILL)
        return await self.ended()

    def _listens(self, number: signal.Signals) -> bool:
        """Whether it catches or ignores the signal; where /proc does not tell, it is taken to."""
        if number in _IGNORED_BY_DEFAULT:
            return True
        assert self._process is not None
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return True
        masks = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith(("SigIgn", "SigCgt")))
        handled = 0
        for mask in masks.values():
            handled |= int(mask, 16)
        return bool(handled >> (number - 1) & 1)


def _from_our_terminal() -> bool:
    """Whether we are in the foreground of a terminal, which then sends its signals to all of the group."""
    try:
        return os.tcgetpgrp(sys.__stdin__.fileno()) == os.getpgrp() if sys.__stdin__ is not None else False
    except (OSError, ValueError):
        return False
