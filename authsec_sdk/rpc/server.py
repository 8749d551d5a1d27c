"""The server's end: listens, admits, serves and drains; every bound of `ServerLimits` is kept here or below."""

import asyncio
import errno
import logging
import os
import random
import socket as socket_module
import ssl as ssl_module
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from authsec_sdk.rpc.admission import Accepted, Admission
from authsec_sdk.rpc.calls import Service
from authsec_sdk.rpc.connection import monotonic
from authsec_sdk.rpc.limits import ServerLimits
from authsec_sdk.rpc.listen import BACKLOG, BoundPath, bind_tcp, bind_unix, next_connection
from authsec_sdk.rpc.paced_log import PacedLog
from authsec_sdk.rpc.peer import Interceptor, Peer
from authsec_sdk.rpc.server_protocol import ServerProtocol, ServerStats

_logger = logging.getLogger(__name__)
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


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
        self._admission = Admission(self.limits, self.stats)
        self._listeners: dict[socket_module.socket, asyncio.Task[None]] = {}
        self._unlink: list[BoundPath] = []
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many connections there are now, handshakes included."""
        return len(self._admission)

    @property
    def buffered(self) -> int:
        """Bytes gathered of messages that are not complete."""
        return self._admission.budget.used

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
                sock, address = await next_connection(listener)
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._log.warning("cannot accept: %s; making room", error)
                    self._admission.make_room()
                    await asyncio.sleep(0.1)
                continue
            try:
                self._admit(sock, address, ssl)
            except Exception:
                _logger.exception("a connection was refused by an error")
                sock.close()
            await asyncio.sleep(0)  # accepting returns at once while callers queue: the others must get their turn

    def _admit(self, sock: socket_module.socket, address: Any, ssl: ssl_module.SSLContext | None) -> None:
        peer = Peer.of(sock, address)
        reason = self._admission.refusal(peer)
        if reason is None and self.on_accept is not None:
            try:
                peer.attachment = self.on_accept(peer)
            except Exception as error:  # noqa: BLE001 - whatever it is, it means no
                reason = f"refused at accept: {error}"
        if reason is not None:
            self.stats.connections_refused += 1
            self._log.warning("refused a connection: %s peer=%s", reason, peer.address)
            sock.close()
            return
        self.stats.connections_accepted += 1
        age = self.limits.max_connection_age
        leave_after = None if age is None else age * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, hides nothing
        protocol = ServerProtocol(self._service, peer, self._admission.budget, self.stats, leave_after, self._log)
        accepted = Accepted(peer, protocol)
        accepted.task = asyncio.get_running_loop().create_task(self._run(accepted, sock, ssl))
        accepted.task.add_done_callback(lambda _: self._gone(accepted, sock))
        self._admission.add(accepted)

    def _gone(self, accepted: Accepted, sock: socket_module.socket) -> None:
        # A callback and not a `finally`: a task that is cancelled before its first step runs none.
        self._admission.discard(accepted)
        if not accepted.begun:
            sock.close()

    async def _run(self, accepted: Accepted, sock: socket_module.socket, ssl: ssl_module.SSLContext | None) -> None:
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
        self._admission.handshake_done(accepted)
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
            limits.handler_timeout,
            limits.stream_timeout,
        )
        interval = min([1.0, *(time / 4 for time in times if time)])
        while True:
            await asyncio.sleep(max(interval, 0.01))
            now = monotonic()
            for accepted in list(self._admission.accepted):
                if accepted.up:
                    accepted.protocol.calls.expire(now)
                    accepted.protocol.check(now)

    async def drain(self, grace: float) -> None:
        """Stop: no new connections, clients asked to leave, calls under way have `grace` seconds, the rest UNAVAILABLE.

        Returns when every handler has returned and every socket is closed. A second call shortens the grace.
        """
        await self._stop_listening()
        for accepted in list(self._admission.accepted):
            if not accepted.up and accepted.task is not None and self._admission.in_handshake(accepted):
                accepted.task.cancel()
            elif accepted.up:
                accepted.protocol.ask_to_leave(grace, "the server is shutting down")
                accepted.protocol.check(monotonic())
        if await self._ended(within=grace):
            return
        for accepted in list(self._admission.accepted):
            if accepted.up:
                accepted.protocol.vitals.last_stream_named = True
                accepted.protocol.calls.end_all("the server is shutting down")
                accepted.protocol.check(monotonic())
        while self._admission.accepted:
            if not await self._ended(within=5.0):
                for accepted in list(self._admission.accepted):
                    if accepted.up:
                        accepted.protocol.connection.abort()

    async def _ended(self, *, within: float) -> bool:
        tasks = [accepted.task for accepted in self._admission.accepted if accepted.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=within)
        if self._admission.accepted:
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
