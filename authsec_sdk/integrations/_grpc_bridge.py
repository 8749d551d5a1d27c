"""What carries a grpcio channel over mutual TLS: from a private Unix socket in this process to the server.

grpcio's own TLS verifies host names, cannot be told otherwise from Python, and takes its certificate once. So the
channel speaks plaintext to a socket that only this process can reach (a folder of mode 0700; where the system tells who
connected, the process ID too), and for each of its connections one is made to the server, with a `SpiffeSSLContext`.

One thread moves the bytes of all connections. It stops reading where the other side does not keep up, so flow control
reaches from end to end. Another, short-lived one makes each connection: names are resolved anew every time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import SpiffeSSLContext, SpiffeSSLSocket

__all__ = ["ChannelBridge"]

logger = logging.getLogger(__name__)

_CHUNK: Final = 65536
_RECORD: Final = 16384  # the most that OpenSSL gives at once
_LONGEST_PATH: Final = 100
_UCRED: Final = struct.Struct("3i")  # pid, uid, gid
_READ, _WRITE = select.POLLIN, select.POLLOUT
_CLOSE_PATIENCE: Final = 5.0


class ChannelBridge:
    """A listening Unix socket at `path`, and a thread that carries what connects there to one server.

    `close()` ends it and every connection. `retire()` ends it when its last connection does.
    """

    def __init__(self, context: SpiffeSSLContext, host: str, port: int, *, connect_timeout: float) -> None:
        self._context = context
        self._server = (host, port)
        self._connect_timeout = connect_timeout
        self._folder = _private_folder()
        self.path = f"{self._folder}/s"
        self.last_error: Exception | None = None
        self.peer_spiffe_id: SpiffeID | None = None
        self._closing = self._retired = False
        self._lock = threading.Lock()
        self._dialled: list[_Connection] = []
        self._dialling = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._wakes, self._waker = socket.socketpair()
        self._wakes.setblocking(False)
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"grpc-bridge-{host}:{port}", daemon=True)
        self._thread.start()

    def drop_connections(self) -> None:
        """End every connection now: calls in flight fail, and the next one connects with the newest identity."""
        self._post(drop=True)

    def close(self) -> None:
        """End every connection and wait for the thread. May be called again."""
        self._remove_folder()
        self._closing = True
        self._post()
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_PATIENCE)

    def retire(self) -> None:
        """Take no new connection, and end with the last one. Does not wait."""
        self._remove_folder()
        self._retired = True
        self._post()

    def _remove_folder(self) -> None:
        with contextlib.suppress(OSError):
            Path(self.path).unlink(missing_ok=True)
            Path(self._folder).rmdir()

    def _post(self, *, drop: bool = False) -> None:
        with contextlib.suppress(OSError):  # closed, or full of reasons to wake up
            self._waker.send(b"d" if drop else b"w")

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        live: set[_Connection] = set()
        watch = _Watch()
        try:
            watch.set(self._listener.fileno(), _READ, self._accept)
            watch.set(self._wakes.fileno(), _READ, lambda _: self._awake(watch, live))
            while not (self._closing or (self._retired and not live and not self._dialling)):
                watch.wait()
        except Exception:
            logger.exception("The bridge of a gRPC channel failed; the channel cannot connect any more")
        finally:
            with self._lock:
                self._closing = True
                live.update(self._dialled)
            for connection in tuple(live):
                connection.end()
            for each in (self._listener, self._wakes, self._waker):
                each.close()

    def _awake(self, watch: _Watch, live: set[_Connection]) -> None:
        woken = self._wakes.recv(4096)
        if b"d" in woken:
            for connection in tuple(live):
                connection.end()
        with self._lock:
            arrived, self._dialled = self._dialled, []
        for connection in arrived:
            live.add(connection)
            connection.start(watch, live.discard)

    def _accept(self, _events: int) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        if not _is_ours(near):
            logger.warning("Another process connected to the bridge of a gRPC channel and was refused")
            near.close()
            return
        with self._lock:
            self._dialling += 1
        threading.Thread(target=self._dial, args=(near,), name=f"{self._thread.name}-dial", daemon=True).start()

    def _dial(self, near: socket.socket) -> None:
        """Connect to the server and verify it; runs in a thread of its own, since all of it blocks."""
        connection = None
        try:
            far = self._connect()
            self.peer_spiffe_id, self.last_error = far.peer_spiffe_id, None
            connection = _Connection(near, far)
        except Exception as error:  # noqa: BLE001 - whatever it is, the channel sees a connection that failed
            self.last_error = error
            near.close()
            host, port = self._server
            if not self._closing:
                logger.warning("gRPC channel could not connect to %s:%d: %s", host, port, error)
        with self._lock:
            self._dialling -= 1
            if connection is not None and self._closing:
                connection.end()
            elif connection is not None:
                self._dialled.append(connection)
        self._post()

    def _connect(self) -> SpiffeSSLSocket:
        raw = socket.create_connection(self._server, timeout=self._connect_timeout)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            far = self._context.wrap_socket(raw, server_hostname=self._server[0])
        except BaseException:
            raw.close()
            raise
        assert isinstance(far, SpiffeSSLSocket)
        if far.selected_alpn_protocol() != "h2":
            far.close()
            raise ssl.SSLError(f"{self._server[0]}:{self._server[1]} speaks no HTTP/2 (ALPN h2), as gRPC needs it")
        return far


class _Watch:
    """Which sockets are waited for, and what is called when one is ready.

    `select.poll` itself: for the two events of a call, the objects that `selectors` makes of them cost what counts.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: dict[int, Callable[[int], object]] = {}

    def set(self, descriptor: int, events: int, call: Callable[[int], object]) -> None:
        """Wait for these events from now on; for none of them, errors neither, if there are none."""
        if events:
            self._poll.register(descriptor, events)
            self._calls[descriptor] = call
        elif self._calls.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def wait(self) -> None:
        """Wait until something is ready, and make its calls."""
        for descriptor, events in self._poll.poll():
            call = self._calls.get(descriptor)
            if call is not None:  # else a call before it, in this very loop, has ended it
                call(events)


class _Connection:
    """One connection of the channel (near, plaintext) and the one it is carried over (far, mutual TLS)."""

    def __init__(self, near: socket.socket, far: SpiffeSSLSocket) -> None:
        self._near, self._far = near, far
        self._buffer = memoryview(bytearray(_CHUNK))
        self._out: memoryview | None = None  # read from near, not yet taken by far
        self._in: memoryview | None = None  # read from far, not yet taken by near
        self._ended = False
        self._far_ended = False
        self._watched = (True, True)  # whether out and in were empty when it was last said what to wait for
        self._near_number, self._far_number = near.fileno(), far.fileno()
        self._watch: _Watch | None = None
        near.setblocking(False)
        far.setblocking(False)

    def start(self, watch: _Watch, forget: Callable[[_Connection], object]) -> None:
        """Begin to carry; `forget` is called at the end."""
        self._watch, self._forget = watch, forget
        self._watch_both()
        self._on_far(_READ)  # what came with the end of the handshake is not announced again

    def end(self) -> None:
        """Close both sides; nothing more is carried."""
        if self._ended:
            return
        self._ended = True
        if self._watch is not None:
            self._watch.set(self._near_number, 0, self._on_near)
            self._watch.set(self._far_number, 0, self._on_far)
            self._forget(self)
        self._near.close()
        self._far.close()

    def _on_near(self, events: int) -> None:
        # An error or a hang-up is news for whatever is watched: the next step meets it.
        try:
            if self._in is not None and events & ~_READ:
                self._inward()
            if self._out is None and events & ~_WRITE and not self._ended:
                self._outward()
        except OSError as error:
            self._failed(error)
        if self._watched != (self._out is None, self._in is None):
            self._watch_both()

    def _on_far(self, events: int) -> None:
        # OpenSSL may have to write before it can read on, and the reverse: whatever happened, try what is waiting.
        try:
            if self._out is not None:
                self._outward()
            if self._in is None and events & ~_WRITE and not self._ended:
                self._inward()
        except OSError as error:
            self._failed(error)
        if self._watched != (self._out is None, self._in is None):
            self._watch_both()

    def _failed(self, error: OSError) -> None:  # of sockets and of TLS, and our own ConnectionEndedError
        logger.debug("A connection of a gRPC channel ended: %s", error)
        self.end()

    def _watch_both(self) -> None:
        """Read from a side only while the other one keeps up."""
        if self._ended or self._watch is None:
            return
        self._watched = out_done, in_done = self._out is None, self._in is None
        self._watch.set(self._near_number, out_done * _READ | (not in_done) * _WRITE, self._on_near)
        self._watch.set(self._far_number, in_done * _READ | (not out_done) * _WRITE, self._on_far)

    def _outward(self) -> None:
        """From the channel to the server."""
        buffer, near, far = self._buffer, self._near, self._far
        try:
            while True:
                if self._out is None:
                    count = near.recv_into(buffer)
                    if not count:
                        self.end()  # the channel is done with it; nothing waits, or we would not have read
                        return
                    self._out = buffer[:count]
                    full = count == _CHUNK
                else:
                    full = True
                far.write(self._out)  # takes all or nothing
                self._out = None
                if not full:
                    return
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            if self._out is not None and self._out.obj is buffer.obj:
                self._out = memoryview(bytes(self._out))  # the buffer is shared with the other direction

    def _inward(self) -> None:
        """From the server to the channel."""
        buffer, near, far = self._buffer, self._near, self._far
        try:
            while True:
                if self._in is not None:
                    sent = near.send(self._in)
                    self._in = self._in[sent:] if sent < len(self._in) else None
                    continue
                if self._far_ended:
                    self.end()
                    return
                count: Any = far.read(_CHUNK, buffer)  # an int, since it is given a buffer
                if not count:
                    self._far_ended = True
                    continue
                self._in = buffer[:count]
                sent = near.send(self._in)
                self._in = self._in[sent:] if sent < count else None
                if count < _RECORD and self._in is None and not far.pending():
                    return
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self._in is not None and self._in.obj is buffer.obj:
                self._in = memoryview(bytes(self._in))


def _private_folder() -> str:
    """Make a folder for nobody else, near enough to the root for a socket address."""
    folder = tempfile.mkdtemp(prefix="grpc-")
    if len(folder) > _LONGEST_PATH:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="grpc-", dir="/tmp")
    return folder


def _is_ours(connected: socket.socket) -> bool:
    """Whether this very process is at the other end; where the system does not say, the folder's mode must do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(credentials)
    return bool(pid == os.getpid() and uid == os.geteuid())
