"""One HTTP/1.1 request and its answer over a connection somebody else opened, bounded: for the few calls daemons make.

Who opens the connection decides whom to believe and how long all of it may take; here is only what goes over it.
"""

import asyncio
import http.client
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from authsec_sdk.errors import UnavailableError

MAXIMUM_HEAD: Final = 64 * 1024
_END_OF_CHUNKS: Final = b"\r\n0\r\n\r\n"
_FORBIDDEN: Final = frozenset(map(chr, (*range(0x21), 0x7F)))


class HTTPExchangeError(UnavailableError):
    """The other side hung up, speaks no HTTP, or answers more than was asked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask. `headers` may hold secrets. No answer is asked to be compressed, none is cached."""

    method: str
    host: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Write the request.

        Raises:
            ValueError: a part holds white space, control characters or what is not ASCII, and could say more than it
                should.
        """
        for part in (self.method, self.host, self.target, *self.headers):
            if not part or not part.isascii() or _FORBIDDEN & set(part):
                raise ValueError(f"{part[:100]!r} cannot be part of a request")
        for name, value in self.headers.items():
            if not value.isascii() or not value.isprintable():
                raise ValueError(f"the value of header {name} cannot be sent")
        lines = [
            f"{self.method} {self.target} HTTP/1.1",
            f"Host: {self.host}",
            "User-Agent: icp",
            "Accept-Encoding: identity",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join((*lines, "", "")).encode("ascii") + self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. A redirect is an answer like any other: nothing follows it."""

    status: int
    body: bytes = field(repr=False)


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request, *, limit: int
) -> Answer:
    """Send a request, read the answer, and end the connection. At most `limit` bytes of body are read.

    Raises:
        HTTPExchangeError: there is no answer, or it is none, or too large.
        ValueError: the request cannot be sent.
    """
    try:
        writer.write(request.encode())
        return await _answer(reader, request, limit)
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, request: Request, limit: int) -> Answer:
    try:
        return await _read(reader, limit)
    except (OSError, EOFError) as error:
        raise HTTPExchangeError(f"{request.host} hung up: {error}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise HTTPExchangeError(f"{request.host} answers no HTTP: {type(error).__name__}"[:200]) from error


async def _read(reader: asyncio.StreamReader, limit: int) -> Answer:
    raw = bytearray()
    while (end := raw.find(b"\r\n\r\n")) < 0:
        if len(raw) > MAXIMUM_HEAD:
            raise HTTPExchangeError(f"the headers of the answer have more than {MAXIMUM_HEAD} bytes")
        if not (chunk := await reader.read(MAXIMUM_HEAD)):
            raise EOFError("before the end of its headers")
        raw += chunk
    head = _parsed(bytes(raw[: end + 4]))
    if (head.length or 0) > limit:
        raise HTTPExchangeError(f"the answer has more than {limit} bytes")
    # Chunks of one byte each make six of it on the wire.
    most = end + 4 + limit * (6 if head.chunked else 1)
    whole = None if head.length is None else end + 4 + head.length
    while not (whole is not None and len(raw) >= whole) and not (head.chunked and raw.endswith(_END_OF_CHUNKS)):
        if len(raw) > most:
            raise HTTPExchangeError(f"the answer has more than {limit} bytes")
        if not (chunk := await reader.read(MAXIMUM_HEAD)):
            break
        raw += chunk
    body = _parsed(bytes(raw)).read()  # raises IncompleteRead for half of what was announced
    if len(body) > limit:
        raise HTTPExchangeError(f"the answer has more than {limit} bytes")
    return Answer(head.status, body)


def _parsed(data: bytes) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(cast("object", _Recorded(data)), method="GET")  # type: ignore[arg-type]
    response.begin()
    return response


class _Recorded:
    """As much of a socket as `http.client` wants to see."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)
