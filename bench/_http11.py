"""HTTP/1.1 with keep-alive over raw asyncio: as little as a client and a server can do, so that what is between shows.

Nothing of the SDK is imported here: the process whose memory it is measured against uses this too.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

SIZES = (100, 65536)
_ANSWERS = {
    b"/%d" % size: b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size for size in (*SIZES, 0)
}
_ANSWERS[b"/close"] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n" + b"x" * 100
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Server(asyncio.Protocol):
    """Answers `GET /N` with N bytes, and `GET /close` with a hundred and the end of the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            path = self._buffer.split(b" ", 2)[1]
            self._buffer = self._buffer[end + 4 :]
            self._transport.write(_ANSWERS[path])
            if path == b"/close":
                self._transport.close()


class Client(asyncio.Protocol):
    """Asks for so many bytes, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._head = b""
        self._left = 0
        self._waiting: asyncio.Future[None] | None = None

    def get(self, size: int) -> asyncio.Future[None]:
        """Send a request; the future is done once the whole answer is there."""
        self._waiting = waiting = self._loop.create_future()
        if self._transport.is_closing():
            waiting.set_exception(ConnectionResetError("the connection is closed"))
        else:
            self._transport.write(b"GET /%d HTTP/1.1\r\nhost: bench\r\n\r\n" % size)
        return waiting

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            found = _LENGTH.search(self._head, 0, end)
            if found is None or b" 200 " not in self._head[:16]:
                self._fail(ConnectionError(self._head[:200].decode(errors="replace")))
                return
            self._left = int(found[1]) - (len(self._head) - end - 4)
            self._head = b""
        if not self._left and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    def end(self) -> None:
        """Close at once."""
        self._transport.abort()
