"""Several worker processes on the same listening sockets, each begun anew (spawn) and replaced when it ends.

Nothing secret crosses from one process to another: a worker is told *how* to get its identity, and gets its own.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

from authsec_sdk.errors import CallerError, ConfigurationError, RetryableError, UnavailableError

__all__ = ["Serve", "Supervisor", "listening", "told_to_stop", "where"]

Serve = Callable[[list[socket.socket], Callable[[], None]], None]
"""Serves in this process until a signal says stop; the second argument is called once it accepts connections."""

START_TIMEOUT = 90.0
STOP_TIMEOUT = 30.0
_TICK = 0.2
_NO_IDENTITY = 75  # EX_TEMPFAIL of sysexits.h
_LONGEST_DELAY = 30.0

logger = logging.getLogger(__name__)
_spawn = multiprocessing.get_context("spawn")


class _ToldToStop(SystemExit):
    """SIGTERM came while nothing else handled it."""


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise _ToldToStop(0)


@contextlib.contextmanager
def told_to_stop() -> Iterator[None]:
    """Let SIGTERM end what is inside in good order; servers that handle it themselves raise it again when done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are somebody else's
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    except _ToldToStop:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def listening(
    host: str | None = "127.0.0.1", port: int = 8000, *, uds: str | None = None, fd: int | None = None
) -> Iterator[list[socket.socket]]:
    """Bind what workers share: a Unix socket, an inherited descriptor, or every address of a host.

    Raises:
        OSError: the address cannot be had.

    """
    with contextlib.ExitStack() as stack:
        if fd is not None:
            sockets = [stack.enter_context(socket.socket(fileno=os.dup(fd)))]
        elif uds is not None:
            sockets = [_unix(uds, stack)]
        else:
            sockets = list(_tcp(host, port, stack))
        yield sockets


def _unix(path: str, stack: contextlib.ExitStack) -> socket.socket:
    mode = 0o666  # the handshake decides who gets in
    with contextlib.suppress(FileNotFoundError):
        status = Path(path).stat()
        if not stat.S_ISSOCK(status.st_mode):
            raise FileExistsError(f"{path} is there, and is no socket")
        mode = stat.S_IMODE(status.st_mode)
        Path(path).unlink()
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(path)
    stack.callback(Path(path).unlink, missing_ok=True)
    Path(path).chmod(mode)
    return listener


def _tcp(host: str | None, port: int, stack: contextlib.ExitStack) -> Iterator[socket.socket]:
    # With the protocol's number, or asyncio leaves Nagle's algorithm on for accepted connections.
    found = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listener = stack.enter_context(socket.socket(family, kind, protocol))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        yield listener


def where(listener: socket.socket) -> str:
    """Return the URL of a listener, or the path of a Unix socket."""
    address = listener.getsockname()
    if not isinstance(address, tuple):
        return f"unix:{address}"
    host, port = address[:2]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _work(serve: Serve, sockets: list[socket.socket], started: Connection) -> None:
    """Be a worker process."""
    for one in (signal.SIGINT, signal.SIGHUP):  # of the terminal: the parent hears them too, and tells us
        signal.signal(one, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="authsec-parent", daemon=True).start()
    try:
        with told_to_stop():
            serve(sockets, lambda: started.send_bytes(b"1"))
    except RetryableError as error:
        logger.error("No identity for a worker: %s", error)  # noqa: TRY400 - an operator's matter, not a stack's
        sys.exit(_NO_IDENTITY)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class _Worker:
    """One process, and what is known of it."""

    def __init__(self, serve: Serve, sockets: Sequence[socket.socket]) -> None:
        self.news, theirs = _spawn.Pipe(duplex=False)
        self.process: SpawnProcess = _spawn.Process(target=_work, args=(serve, list(sockets), theirs))
        self.process.start()
        theirs.close()
        self.started = False

    def look(self) -> None:
        """Note whether it has started."""
        if not self.started:
            with contextlib.suppress(EOFError, OSError):
                self.started = self.news.poll() and bool(self.news.recv_bytes(1))

    @property
    def ended(self) -> bool:
        return self.process.exitcode is not None

    def terminate(self) -> None:
        if not self.ended:
            self.process.terminate()

    def bury(self) -> None:
        self.process.join()
        self.process.close()
        self.news.close()


@dataclass
class Supervisor:
    """Keeps `count` workers running until SIGINT or SIGTERM; SIGHUP replaces them one by one, without a gap.

    A worker that ends is replaced, whatever it ended of, and with growing pauses where replacements do not come up.
    When the first workers do not come up, the run ends: what keeps them will keep the next ones.

    Raises:
        CallerError: what the workers need cannot be sent to them.

    """

    serve: Serve
    sockets: Sequence[socket.socket]
    count: int
    on_started: Callable[[], None] | None = None
    _workers: list[_Worker] = field(default_factory=list)
    _leaving: list[_Worker] = field(default_factory=list)
    _stopping: bool = False
    _restart: bool = False
    _delay: float = 0.0
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        """Find out now, in words, what spawn would tell in a traceback."""
        try:
            pickle.dumps(self.serve)
        except Exception as error:
            raise CallerError(
                "worker processes are started anew and find what they need by its name: give the application as "
                f"'module:name', and authorizer, source and on_rejected as what a module defines ({error})"
            ) from error

    def run(self) -> None:
        """Supervise until told to stop.

        Raises:
            UnavailableError: the first workers got no identity in time.
            ConfigurationError: they did not start for another reason, which they wrote.

        """
        with self._signals():
            try:
                self._workers = [_Worker(self.serve, self.sockets) for _ in range(self.count)]
                self._first_start()
                while not self._stopping:
                    self._wait()
                    self._replace()
                    if self._restart:
                        self._restart = False
                        self._restart_one_by_one()
            finally:
                self._stop_all()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        handled = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGHUP: self._again}
        before = {number: signal.signal(number, handler) for number, handler in handled.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _again(self, _signal: int, _frame: FrameType | None) -> None:
        self._restart = True

    def _wait(self) -> None:
        ends: list[Any] = [one.process.sentinel for one in (*self._workers, *self._leaving)]
        ends += [one.news for one in self._workers if not one.started]
        multiprocessing.connection.wait(ends, timeout=_TICK)
        for one in self._workers:
            one.look()
        for one in [one for one in self._leaving if one.ended]:
            self._leaving.remove(one)
            one.bury()

    def _first_start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._stopping and not all(one.started for one in self._workers):
            self._wait()
            ended = {one.process.exitcode for one in self._workers if one.ended and not one.started}
            if _NO_IDENTITY in ended or time.monotonic() > deadline:
                raise UnavailableError("a worker process got no identity in time; what it wrote before says why")
            if ended:
                raise ConfigurationError("a worker process did not start; what it wrote before says why")
        if not self._stopping and self.on_started is not None:
            self.on_started()

    def _replace(self) -> None:
        for number, one in enumerate(self._workers):
            if not one.ended or time.monotonic() < self._not_before:
                continue
            logger.warning("Worker ended, starting another: pid=%s exitcode=%s", one.process.pid, one.process.exitcode)
            self._delay = 0.0 if one.started else min(_LONGEST_DELAY, max(0.5, 2 * self._delay))
            self._not_before = time.monotonic() + self._delay
            one.bury()
            self._workers[number] = _Worker(self.serve, self.sockets)

    def _restart_one_by_one(self) -> None:
        for number, old in enumerate(self._workers):
            new = _Worker(self.serve, self.sockets)
            deadline = time.monotonic() + START_TIMEOUT
            while not new.started and not new.ended and not self._stopping and time.monotonic() < deadline:
                self._wait()
                new.look()
                time.sleep(0.01)
            if not new.started:
                logger.error("A new worker did not start; those there are stay: pid=%s", new.process.pid)
                new.terminate()
                self._leaving.append(new)
                return
            self._workers[number] = new
            old.terminate()
            self._leaving.append(old)

    def _stop_all(self) -> None:
        everybody = [*self._workers, *self._leaving]
        for one in everybody:
            one.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for one in everybody:
            one.process.join(max(0.0, deadline - time.monotonic()))
            if not one.ended:
                logger.error("A worker did not stop in %d seconds and is killed: pid=%s", STOP_TIMEOUT, one.process.pid)
                one.process.kill()
            one.bury()
