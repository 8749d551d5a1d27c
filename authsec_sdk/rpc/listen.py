"""Sockets a server listens on, bound so that nobody else's is taken or removed."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class BoundPath:
    """A socket file of ours: path and inode, by which it is told from one that took its place."""

    path: Path
    inode: int

    def remove(self) -> None:
        """Remove the file if it is still ours."""
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()


def bind_unix(name: str, mode: int) -> tuple[socket.socket, BoundPath | None]:
    """A listening Unix socket; an abstract one (its name begins with a zero byte) has no file.

    A file nobody listens on is replaced. The mode is set between bind and listen: nobody can connect before.
    Raises: OSError, EADDRINUSE when somebody listens there or the file is no socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound = None
    try:
        if name.startswith("\0"):
            sock.bind(name)
        else:
            path = Path(name)
            _remove_stale(path)
            sock.bind(name)
            path.chmod(mode)
            bound = BoundPath(path, path.stat().st_ino)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock, bound


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "there is a file in the socket's place", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except FileNotFoundError:
            return
        except (TimeoutError, BlockingIOError):
            pass  # its queue is full: somebody listens, and is busy
    raise OSError(errno.EADDRINUSE, "another process listens on this socket", str(path))


async def bind_tcp(host: str | None, port: int) -> list[socket.socket]:
    """Listening sockets on every address of `host` (None or "": all), on one port (0: a free one). Raises: OSError."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(infos):
            sock = socket.socket(family, kind, proto)
            bound.append(sock)
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]
            sock.listen(BACKLOG)
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    return bound


async def next_connection(listener: socket.socket) -> tuple[socket.socket, Any]:
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
