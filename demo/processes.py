"""Child processes that never outlive the demo, and whose every line of output reaches it."""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_GRACE = 8.0
_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Have the kernel end this process when the demo is gone, however it went."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ProcessFailedError(Exception):
    """A process of the demo ended as it should not have."""


class Processes:
    """Starts the demo's children and ends them, last started first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, asyncio.subprocess.Process, asyncio.Task[None]]] = []

    async def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None] | None = None
    ) -> asyncio.subprocess.Process:
        """Start a child in a session of its own; its standard error, and output nobody reads, go to a log file."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "PYTHONUNBUFFERED": "1", **env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log if on_line is None else asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        reader = asyncio.create_task(self._read(process, on_line), name=f"read {name}")
        self._running.append((name, process, reader))
        return process

    @staticmethod
    async def _read(process: asyncio.subprocess.Process, on_line: Callable[[str], None] | None) -> None:
        if process.stdout is None or on_line is None:
            return
        async for line in process.stdout:
            on_line(line.decode(errors="replace").rstrip("\n"))

    async def run(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> str:
        """Run a command to its end and return its output.

        Raises:
            ProcessFailedError: when it exits other than with 0.

        """
        lines: list[str] = []
        process = await self.start(name, command, env, lines.append)
        try:
            code = await process.wait()
            await self._running[-1][2]
        finally:
            self._running = [entry for entry in self._running if entry[1] is not process]
        if code != 0:
            raise ProcessFailedError(f"{' '.join(command)} exited with {code}: {self.tail(name) or lines}")
        return "\n".join(lines)

    def pid(self, name: str) -> int:
        """Return the process ID of a running child."""
        return next(process.pid for known, process, _ in self._running if known == name)

    def ended(self) -> list[str]:
        """Name the children that are gone."""
        return [name for name, process, _ in self._running if process.returncode is not None]

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the end of a child's log."""
        log = self._logs / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    async def stop(self) -> None:
        """End every child: asked first, and after a grace period not asked."""
        for _, process, reader in reversed(self._running):
            for how in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    if process.returncode is None:
                        os.killpg(process.pid, how)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _GRACE if how == signal.SIGTERM else None)
                    break
            await asyncio.gather(reader, return_exceptions=True)
        self._running.clear()
