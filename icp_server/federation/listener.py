"""Our bundle endpoint: HTTPS, one request a connection, bounded in size, time and number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from authsec_sdk.errors import UnavailableError
from authsec_sdk.federation import BundleServer
from authsec_sdk.spiffe import TrustBundle
from icp_server.domain.errors import ServiceError

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES: Final = 8192
REQUEST_TIMEOUT: Final = 10.0
"""Seconds for handshake, request and answer together."""
MAX_CONNECTIONS: Final = 256
MAX_CONNECTIONS_PER_ADDRESS: Final = 32
_BREATHER: Final = 0.1


class BundleListener:
    """Serves the newest bundle at `/` to whoever asks; nothing else is there.

    `read` brings the bundle, `context` the TLS of the next connection.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[TrustBundle]],
        context: Callable[[], ssl.SSLContext],
        *,
        refresh_hint: timedelta,
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._read = read
        self._context = context
        self._timeout = timeout
        self._newest: TrustBundle | None = None
        self._app = BundleServer(self._known, refresh_hint=refresh_hint)
        self._serving: dict[asyncio.Task[None], str] = {}
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Begin to serve; returns the address bound.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.create_server((str(address[0]), int(address[1])), family=family, backlog=128)
        listening.setblocking(False)
        self._socket = listening
        self._accepting = asyncio.create_task(self._accept(listening), name="bundle endpoint")
        bound = listening.getsockname()
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Stop serving, also those who have not finished asking; idempotent."""
        tasks = [*self._serving, *([self._accepting] if self._accepting else [])]
        self._accepting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:  # whoever called is gone again, or there is no file descriptor left
                logger.warning("The bundle endpoint cannot accept a connection error=%s", error)
                await asyncio.sleep(_BREATHER)
                continue
            host = str(peer[0])
            if len(self._serving) >= MAX_CONNECTIONS or self._of(host) >= MAX_CONNECTIONS_PER_ADDRESS:
                accepted.close()
                continue
            task = asyncio.create_task(self._serve(accepted), name="bundle request")
            self._serving[task] = host
            task.add_done_callback(self._done)

    def _of(self, host: str) -> int:
        return Counter(self._serving.values())[host]

    def _done(self, task: asyncio.Task[None]) -> None:
        self._serving.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("The bundle endpoint failed at a request", exc_info=error)

    async def _serve(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_REQUEST_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.BaseTransport | None = None
        try:
            async with asyncio.timeout(self._timeout):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, accepted, ssl=self._context(), ssl_handshake_timeout=self._timeout
                )
                assert isinstance(transport, asyncio.WriteTransport)
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # no TLS, no end, or gone: theirs to know
        finally:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            else:
                accepted.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return _response(HTTPStatus.BAD_REQUEST)
        scope = _scope(head)
        if scope is None:
            return _response(HTTPStatus.BAD_REQUEST)
        with contextlib.suppress(ServiceError):  # what was known before is better than nothing
            self._newest = await self._read()
        answer = _Answer()
        await self._app(scope, answer.receive, answer.send)
        return answer.bytes()

    def _known(self) -> TrustBundle:
        if self._newest is None:
            raise UnavailableError("there is no bundle to serve yet")
        return self._newest


class _Answer:
    """What an ASGI application sends, as the bytes of HTTP/1.1."""

    def __init__(self) -> None:
        self._status = HTTPStatus.INTERNAL_SERVER_ERROR
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    async def receive(self) -> MutableMapping[str, Any]:
        """No request has a body that anybody reads."""
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a part."""
        if message["type"] == "http.response.start":
            self._status = HTTPStatus(message["status"])
            self._headers = list(message["headers"])
        else:
            self._body += message.get("body", b"")

    def bytes(self) -> bytes:
        """All of it."""
        return _response(self._status, self._headers, self._body)


def _scope(head: bytes) -> dict[str, Any] | None:
    """Read a request's head; None if it is none."""
    first, *lines = head[:-4].split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1.") or not parts[1].startswith(b"/"):
        return None
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            return None
        headers.append((name.lower(), value.strip()))
    return {
        "type": "http",
        "method": parts[0].decode("latin-1"),
        "path": parts[1].partition(b"?")[0].decode("latin-1"),
        "root_path": "",
        "headers": headers,
    }


def _response(status: HTTPStatus, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), b"connection: close"]
    lines += [name + b": " + value for name, value in headers or [(b"content-length", b"0")]]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
