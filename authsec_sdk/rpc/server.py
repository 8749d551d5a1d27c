"""The server's end: listens, admits, serves and drains; every bound of `ServerLimits` is kept here or below."""

import asyncio
import errno
import logging
import os
import random
import resource
import socket as socket_module
import ssl as ssl_module
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from authsec_sdk.rpc.budget import ByteBudget
from authsec_sdk.rpc.calls import Service
from authsec_sdk.rpc.connection import monotonic
from authsec_sdk.rpc.limits import ServerLimits
from authsec_sdk.rpc.listen import BACKLOG, BoundPath, bind_tcp, bind_unix
from authsec_sdk.rpc.paced_log import PacedLog
from authsec_sdk.rpc.peer import Interceptor, Peer
from authsec_sdk.rpc.server_protocol import ServerProtocol, ServerStats

_logger = logging.getLogger(__name__)
#: Descriptors left to the rest of the process.
SPARE_DESCRIPTORS = 128
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _Accepted:
    """A connection from accept to end."""

    __slots__ = ("begun", "evicted", "peer", "protocol", "task", "up")

    def __init__(self, peer: Peer, protocol: ServerProtocol) -> None:
        self.peer = peer
        self.protocol = protocol
        self.begun = False  # its task has made its first step and owns the socket
        self.evicted = False  # it is closing to make room
        self.up = False  # the handshake is done
        self.task: asyncio.Task[None] | None = None

    @property
    def idle_since(self) -> float | None:
        return self.protocol.vitals.idle_since if self.up else None


class Server:
    """Serves the generated handlers on any number of sockets.

    `on_accept` runs at accept, before a byte is read, with the accepted socket in the peer: the place for SO_PEERCRED.
    What it returns becomes `Peer.attachment`; if it raises, the connection is closed. `interceptor(call, proceed)` runs
    around each handler. A GRPCError raised by either becomes the call's status, with its details; any other exception
    is INTERNAL "internal error" for the peer and a traceback in the log.

    A TLS context may request a client certificate without requiring one; what came is at `Peer.ssl_object`. Nothing is
    authorized here.
    """

    def __init__(
        self,
        handlers: Sequence[Any],
        *,
        limits: ServerLimits | None = None,
        interceptor: Interceptor | None = None,
        on_accept: Callable[[Peer], object] | None = None,
    ) -> None:
        self.limits = limits or ServerLimits()
        methods = {path: handler for servable in handlers for path, handler in servable.__mapping__().items()}
        self._service = Service(methods, self.limits, interceptor)
        self.on_accept = on_accept
        self.stats = ServerStats()
        self._log = PacedLog(_logger)
        self._budget = ByteBudget(self.limits.max_buffered)
        self._budget.on_full = self._free_memory
        self._accepted: set[_Accepted] = set()
        self._per_peer: Counter[Any] = Counter()
        self._handshakes: dict[_Accepted, None] = {}  # in the order of their beginning
        self._listeners: dict[socket_module.socket, asyncio.Task[None]] = {}
        self._unlink: list[BoundPath] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._evicting = 0

    @property
    def connections(self) -> int:
        """How many connections there are now, handshakes included."""
        return len(self._accepted)

    @property
    def buffered(self) -> int:
        """Bytes gathered of messages that are not complete."""
        return self._budget.used

    async def listen_unix(self, path: str | Path, *, mode: int = 0o777) -> None:
        """Listen on a Unix socket; a path that begins with a zero byte is an abstract one.

        A socket nobody listens on any more is replaced, one that is in use is not. `mode` is set before anybody can
        connect. The directory is the caller's to protect. Raises: OSError.
        """
        sock, bound = bind_unix(os.fspath(path), mode)
        if bound is not None:
            self._unlink.append(bound)
        self._start(sock, None)

    async def listen_tcp(
        self, host: str | None, port: int, *, ssl: ssl_module.SSLContext | None = None
    ) -> tuple[str, int]:
        """Listen on every address of `host` (None: all); port 0 picks one. Returns the first address.

        The context must offer ALPN ``h2``, or Go clients refuse to speak. Raises: OSError.
        """
        bound = await bind_tcp(host, port)
        for sock in bound:
            self._start(sock, ssl)
        address = bound[0].getsockname()
        return address[0], address[1]

    async def listen_socket(self, sock: socket_module.socket, ssl: ssl_module.SSLContext | None = None) -> None:
        """Listen on a socket made elsewhere (socket activation); it is closed with the server."""
        sock.listen(BACKLOG)
        self._start(sock, ssl)

    def _start(self, sock: socket_module.socket, ssl: ssl_module.SSLContext | None) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        self._listeners[sock] = loop.create_task(self._accept(sock, ssl), name="rpc accept")
        if self._sweeper is None:
            self._sweeper = loop.create_task(self._sweep(), name="rpc sweep")

    async def _accept(self, listener: socket_module.socket, ssl: ssl_module.SSLContext | None) -> None:
        while True:
            try:
                sock, address = await _next_connection(listener)
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._log.warning("cannot accept: %s; making room", error)
                    self._make_room()
                    await asyncio.sleep(0.1)
                continue
            try:
                self._admit(sock, address, ssl)
            except Exception:
                _logger.exception("a connection was refused by an error")
                sock.close()
            await asyncio.sleep(0)  # accepting returns at once while callers queue: the others must get their turn

    def _admit(self, sock: socket_module.socket, address: Any, ssl: ssl_module.SSLContext | None) -> None:
        limits = self.limits
        peer = Peer.of(sock, address)
        crowded = self._per_peer[peer.key] >= limits.max_connections_per_peer
        if crowded and not self._make_room(lambda one: one.peer.key == peer.key):
            self._refuse(sock, peer, "too many connections of this peer")
            return
        if len(self._accepted) - self._evicting >= self._max_connections() and not self._make_room():
            self._refuse(sock, peer, "too many connections")
            return
        if self.on_accept is not None:
            try:
                peer.attachment = self.on_accept(peer)
            except Exception as error:  # noqa: BLE001 - whatever it is, it means no
                self._refuse(sock, peer, f"refused at accept: {error}")
                return
        self.stats.connections_accepted += 1
        age = limits.max_connection_age
        leave_after = None if age is None else age * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, hides nothing
        protocol = ServerProtocol(self._service, peer, self._budget, self.stats, leave_after, self._log)
        accepted = _Accepted(peer, protocol)
        self._accepted.add(accepted)
        self._per_peer[peer.key] += 1
        self._handshakes[accepted] = None
        if len(self._handshakes) > limits.max_handshakes:
            self._drop_a_handshake()
        accepted.task = asyncio.get_running_loop().create_task(self._run(accepted, sock, ssl))
        accepted.task.add_done_callback(lambda _: self._gone(accepted, sock))

    def _gone(self, accepted: _Accepted, sock: socket_module.socket) -> None:
        # A callback and not a `finally`: a task that is cancelled before its first step runs none.
        self._accepted.discard(accepted)
        self._evicting -= accepted.evicted
        self._handshakes.pop(accepted, None)
        self._per_peer[accepted.peer.key] -= 1
        if not self._per_peer[accepted.peer.key]:
            del self._per_peer[accepted.peer.key]
        if not accepted.begun:
            sock.close()

    def _refuse(self, sock: socket_module.socket, peer: Peer, reason: str) -> None:
        self.stats.connections_refused += 1
        self._log.warning("refused a connection: %s peer=%s", reason, peer.address)
        sock.close()

    def _max_connections(self) -> int:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return min(self.limits.max_connections, max(16, descriptors - SPARE_DESCRIPTORS))

    def _make_room(self, among: Callable[[_Accepted], bool] = lambda _: True) -> bool:
        """Close the longest idle connection of the peer that has the most of them, or else a handshake under way."""
        idle = [one for one in self._accepted if one.idle_since is not None and among(one)]
        if not idle:
            return self._drop_a_handshake(among)
        victim = max(idle, key=lambda one: (self._per_peer[one.peer.key], -(one.idle_since or 0.0)))
        self.stats.connections_evicted += 1
        self._evict(victim)
        victim.protocol.goaway(victim.protocol.connection.h2.highest_inbound_stream_id)
        victim.protocol.connection.abort_soon()
        return True

    def _free_memory(self, wanting: ByteBudget) -> bool:
        """Drop the connection that holds the most unfinished messages, unless it is the one that wants more."""
        holder = max(self._accepted, key=lambda one: one.protocol.budget.used, default=None)
        if holder is None or holder.protocol.budget is wanting or not holder.protocol.budget.used:
            return False
        holder.protocol.drop("holds too many unfinished messages")
        return True

    def _drop_a_handshake(self, among: Callable[[_Accepted], bool] = lambda _: True) -> bool:
        candidates = [one for one in self._handshakes if among(one)]
        if not candidates:
            return False
        by_peer = Counter(one.peer.key for one in candidates)
        victim = max(candidates, key=lambda one: by_peer[one.peer.key])  # the first of equals: the oldest
        self._handshakes.pop(victim)
        self.stats.handshakes_failed += 1
        self._evict(victim)
        if victim.task is not None:
            victim.task.cancel()
        return True

    def _evict(self, victim: _Accepted) -> None:
        victim.up = False
        victim.evicted = True
        self._evicting += 1

    async def _run(self, accepted: _Accepted, sock: socket_module.socket, ssl: ssl_module.SSLContext | None) -> None:
        accepted.begun = True
        protocol = accepted.protocol
        try:
            async with asyncio.timeout(self.limits.handshake_timeout):
                await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock, ssl=ssl)
        except Exception as error:  # noqa: BLE001 - TLS, the context's policy, the socket: the handshake failed
            self.stats.handshakes_failed += 1
            why = "handshake took too long" if isinstance(error, TimeoutError) else error
            self._log.info("TLS handshake failed: %s peer=%s", why, accepted.peer.address)
            return
        self._handshakes.pop(accepted, None)
        accepted.up = True
        await protocol.lost.wait()
        await protocol.calls.wait()

    async def _sweep(self) -> None:
        limits = self.limits
        times = (
            limits.handshake_timeout,
            limits.header_timeout,
            limits.max_idle,
            limits.max_connection_age,
            limits.age_grace,
            limits.keepalive_time,
            limits.keepalive_timeout,
        )
        interval = min([1.0, *(time / 4 for time in times if time)])
        while True:
            await asyncio.sleep(max(interval, 0.01))
            now = monotonic()
            for accepted in list(self._accepted):
                if accepted.up:
                    accepted.protocol.check(now)

    async def drain(self, grace: float) -> None:
        """Stop: no new connections, clients asked to leave, calls under way have `grace` seconds, the rest UNAVAILABLE.

        Returns when every handler has returned and every socket is closed. A second call shortens the grace.
        """
        await self._stop_listening()
        for accepted in list(self._accepted):
            if not accepted.up and accepted.task is not None and accepted in self._handshakes:
                accepted.task.cancel()
            elif accepted.up:
                accepted.protocol.ask_to_leave(grace, "the server is shutting down")
                accepted.protocol.check(monotonic())
        if await self._ended(within=grace):
            return
        for accepted in list(self._accepted):
            if accepted.up:
                accepted.protocol.vitals.last_stream_named = True
                accepted.protocol.calls.end_all("the server is shutting down")
                accepted.protocol.check(monotonic())
        while self._accepted:
            if not await self._ended(within=5.0):
                for accepted in list(self._accepted):
                    if accepted.up:
                        accepted.protocol.connection.abort()

    async def _ended(self, *, within: float) -> bool:
        tasks = [accepted.task for accepted in self._accepted if accepted.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=within)
        if self._accepted:
            return False
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait({self._sweeper})
            self._sweeper = None
        return True

    async def close(self) -> None:
        """Stop now: calls under way end with UNAVAILABLE."""
        await self.drain(0.0)

    async def _stop_listening(self) -> None:
        tasks = list(self._listeners.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for sock in self._listeners:
            sock.close()
        self._listeners.clear()
        for bound in self._unlink:
            bound.remove()
        self._unlink.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


async def _next_connection(listener: socket_module.socket) -> tuple[socket_module.socket, Any]:
    """As `loop.sock_accept`, which loses the accepted socket, and so leaks it, when it is cancelled at that moment."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            readable: asyncio.Future[None] = loop.create_future()
            loop.add_reader(listener, _settle, readable)
            try:
                await readable
            finally:
                loop.remove_reader(listener)
        else:
            sock.setblocking(False)
            return sock, address


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
