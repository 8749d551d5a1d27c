"""Liveness and readiness over plain HTTP, for probes: two paths, GET and HEAD, one answer a connection.

A web framework is not worth its weight here. What is read from a caller is bounded in size, in time and in number.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES: Final = 8192
REQUEST_TIMEOUT: Final = 10.0
MAX_CONNECTIONS: Final = 64

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class HealthState:
    """The answer to one probe: whether all is well, and by subsystem what to tell about it."""

    healthy: bool
    details: Mapping[str, object] = field(default_factory=dict)


Probe = Callable[[], Awaitable[HealthState]]


class HealthListener:
    """Serves one probe for each path: 200 when healthy, else `unhealthy_status`; the details as JSON either way."""

    def __init__(
        self, probes: Mapping[str, Probe], *, timeout: float = REQUEST_TIMEOUT, unhealthy_status: int = 500
    ) -> None:
        self._probes = dict(probes)
        self._timeout = timeout
        self._unhealthy_status = unhealthy_status
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Begin to serve; returns the address bound.

        Raises:
            OSError: the address cannot be bound.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_REQUEST_BYTES)
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Stop serving, also those who have not finished asking; idempotent."""
        if self._server is None:
            return
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            async with asyncio.timeout(self._timeout):
                if len(self._serving) > MAX_CONNECTIONS:
                    writer.write(_response(503, b"", with_body=True))
                else:
                    writer.write(await self._answer(reader))
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # the prober went away or never finished asking
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._serving.discard(task)

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return _response(400, b"", with_body=True)
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _response(400, b"", with_body=True)
        method, target = parts[0], parts[1].partition(b"?")[0].decode("latin-1")
        if method not in (b"GET", b"HEAD"):
            return _response(405, b"", with_body=True)
        with_body = method == b"GET"
        probe = self._probes.get(target)
        if probe is None:
            return _response(404, b"", with_body=with_body)
        try:
            state = await probe()
        except Exception:
            logger.exception("health probe failed path=%s", target)
            return _response(500, b"{}\n", with_body=with_body)
        body = json.dumps(state.details, separators=(",", ":")).encode() + b"\n"
        return _response(200 if state.healthy else self._unhealthy_status, body, with_body=with_body)


def _response(status: int, body: bytes, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")
