"""Carry libpq's connections over mutual TLS: libpq verifies a chain at most, and never a SPIFFE ID.

libpq takes no `ssl.SSLContext`. So each of its connections goes to an abstract Unix socket of this process, which only
this process may use, and from there over a `SpiffeSSLContext` to the server. A refusal comes back as an ordinary FATAL
error of PostgreSQL's protocol. One thread carries all connections; it ends with the last of them. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
import sys
import threading
from typing import Any, Final

from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import SpiffeSSLContext, peer_spiffe_id

__all__ = ["HANDSHAKE_TIMEOUT", "Route", "open_route"]

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for the TLS handshake with a server that accepted the TCP connection."""

_PORT: Final = "5432"  # of the abstract socket; it is part of its name and means nothing
_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
_MAX_STARTUP: Final = 10_000  # the server's own limit for the first packet
_CHUNK: Final = 1 << 16
_PEER_CREDENTIALS: Final = struct.Struct("3i")


class Route:
    """One way to one server, for one connection of libpq and the cancel requests that belong to it.

    `host` and `port` are what libpq connects to. `peer` is the server's verified ID once there is one, `failure` why
    the connection did not come about. It ends by itself with its connection.
    """

    def __init__(self, bridge: _Bridge, target: tuple[str, int], context: SpiffeSSLContext) -> None:
        # The colon makes psycopg take the name for a path, which needs no resolving; libpq reads the @ first.
        name = f":authsec-{secrets.token_hex(16)}"
        self.host, self.port = f"@{name}", _PORT
        self.peer: SpiffeID | None = None
        self.failure: BaseException | None = None
        self._bridge, self._target, self._context = bridge, target, context
        self._task: asyncio.Task[None] | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.bind(f"\0{name}/.s.PGSQL.{_PORT}")
            self._listener.listen()
        except BaseException:
            self._listener.close()
            raise

    def close(self) -> None:
        """End the route and its connections. From any thread; again, a no-op."""
        self._bridge.call(self._cancel)

    def start(self) -> None:
        """Begin to carry; in the bridge's thread."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._listener.close()
        if not task.cancelled():
            task.exception()  # each connection has told its own to libpq already
        self._bridge.done()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(self._carry(await self._accept(loop)))
        others = asyncio.create_task(self._accept_others(loop))
        try:
            await first
        finally:
            first.cancel()
            others.cancel()
            await asyncio.gather(first, others, return_exceptions=True)

    async def _accept_others(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry requests to cancel what the first connection does: each comes over a connection of its own."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._carry(await self._accept(loop)))

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        while True:
            accepted, _ = await loop.sock_accept(self._listener)
            credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
            if _PEER_CREDENTIALS.unpack(credentials)[0] == os.getpid():
                return accepted
            accepted.close()  # the name is a secret, but names in /proc/net/unix are for all to see

    async def _carry(self, accepted: socket.socket) -> None:
        from_libpq, to_libpq = await asyncio.open_unix_connection(sock=accepted)
        to_server: asyncio.StreamWriter | None = None
        try:
            startup = await _first_packet(from_libpq)
            from_server, to_server = await self._dial()
            to_server.write(startup)
            answer = await self._answer(from_server)
            to_libpq.write(answer)
            back = asyncio.create_task(_pump(from_server, to_libpq))
            there = asyncio.create_task(_pump(from_libpq, to_server))
            try:
                await asyncio.wait((back, there), return_when=asyncio.FIRST_COMPLETED)
                if there.done() and not back.done():
                    with contextlib.suppress(OSError):  # what the server still says belongs to nobody then
                        await asyncio.wait_for(asyncio.shield(back), 1.0)
            finally:
                await _end(back, there)
        except (OSError, EOFError) as error:
            await self._tell(to_libpq, error)
        finally:
            for writer in (to_libpq, to_server):
                if writer is not None:
                    await _close(writer)

    async def _tell(self, to_libpq: asyncio.StreamWriter, error: Exception) -> None:
        """Let libpq, which has not heard from the server yet, fail with the reason."""
        self.failure = self.failure or error
        host, port = self._target
        with contextlib.suppress(OSError):
            to_libpq.write(_fatal(f"SPIFFE TLS to {host}:{port} failed: {str(error) or type(error).__name__}"))
            await to_libpq.drain()

    async def _answer(self, from_server: asyncio.StreamReader) -> bytes:
        """Return the first that the server says: with TLS 1.3 it refuses a certificate only then."""
        try:
            return await from_server.read(_CHUNK)
        except OSError as error:
            raise ConnectionError(f"the server ended the connection; its log says why: {error}") from error

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as libpq does with `sslmode=require`, and let the context judge the server."""
        loop = asyncio.get_running_loop()
        host, port = self._target
        sock = await _connected(loop, host, port)
        try:
            await loop.sock_sendall(sock, _SSL_REQUEST)
            # Exactly one byte: whatever was smuggled in behind it, in the clear, goes to TLS and fails there.
            if await asyncio.wait_for(loop.sock_recv(sock, 1), HANDSHAKE_TIMEOUT) != b"S":
                raise ConnectionError("the server does not speak TLS (ssl = on in postgresql.conf)")
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=self._context, server_hostname=host, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except BaseException:
            sock.close()
            raise
        self.peer = peer_spiffe_id(writer)
        return reader, writer


class _Bridge:
    """The thread and its event loop, there as long as there are routes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.SelectorEventLoop | None = None
        self._routes = 0

    def open(self, target: tuple[str, int], context: SpiffeSSLContext) -> Route:
        with self._lock:
            route = Route(self, target, context)
            if self._loop is None:
                self._loop = asyncio.SelectorEventLoop()
                # A connection that nobody closed must not keep the interpreter from ending: hence daemon.
                threading.Thread(target=_run, args=(self._loop,), name="authsec-postgres", daemon=True).start()
            self._routes += 1
            self._loop.call_soon_threadsafe(route.start)
        return route

    def call(self, function: Any) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)

    def done(self) -> None:
        """Count a route that ended, in the thread; the last one stops it."""
        with self._lock:
            self._routes -= 1
            if self._routes == 0 and self._loop is not None:
                self._loop.stop()
                self._loop = None


def open_route(target: tuple[str, int], context: SpiffeSSLContext) -> Route:
    """Return a new route to a server's host and port; close it if no connection comes to use it.

    Raises:
        CallerError: this is not Linux.

    """
    if sys.platform != "linux":
        raise CallerError("psycopg over SPIFFE needs Linux (abstract Unix sockets); asyncpg works everywhere")
    return _bridge.open(target, context)


def _run(loop: asyncio.SelectorEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _connected(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    failure: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = failure or error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"no address for {host}")


async def _first_packet(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    length = int.from_bytes(head)
    if not 8 <= length <= _MAX_STARTUP:
        raise ConnectionError("not a packet that PostgreSQL's protocol begins with")
    return head + await reader.readexactly(length - 4)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)  # what broke a connection in use, libpq sees as its end


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        with contextlib.suppress(OSError):
            await asyncio.wait_for(writer.wait_closed(), 1.0)
    finally:
        writer.transport.abort()


def _fatal(text: str) -> bytes:
    """Return an ErrorResponse: severity, SQLSTATE 08006 (connection failure), text."""
    fields = f"SFATAL\0VFATAL\0C08006\0M{text.replace(chr(0), '?')}\0\0".encode()
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


_bridge = _Bridge()


def _after_fork() -> None:
    """Begin anew in a forked child: the thread that carried is in the parent only."""
    global _bridge
    _bridge = _Bridge()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
