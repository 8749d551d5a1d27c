"""One request over one connection: what goes out, what comes back, and other sides that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from icp_common.http_exchange import Answer, HTTPExchangeError, Request, exchange

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def ask() -> AsyncIterator[Callable[..., Any]]:
    """Ask a server that answers these bytes, whatever it is asked, and tell what it was asked."""
    servers = []

    async def run(answer: bytes, *, limit: int = 100, request: Request | None = None) -> tuple[Answer, bytes]:
        asked = bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.extend(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        wanted = request or Request("GET", "h", "/x")
        return await exchange(reader, writer, wanted, limit=limit), bytes(asked)

    yield run
    for server in servers:
        server.close()


async def test_a_request_and_its_answer(ask: Any) -> None:
    request = Request("POST", "h:1", "/a?b=c", {"Authorization": "Bearer x y"}, b"body")
    answer, asked = await ask(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nokmore", request=request)
    assert answer == Answer(201, b"ok")
    assert asked.startswith(b"POST /a?b=c HTTP/1.1\r\nHost: h:1\r\n")
    assert b"\r\nAuthorization: Bearer x y\r\nContent-Length: 4\r\n\r\n" in asked
    assert "Bearer" not in repr(request)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 1\r\n\r\nx", b"x"),
    ],
)
async def test_every_form_of_a_body(ask: Any, raw: bytes, body: bytes) -> None:
    assert (await ask(raw))[0].body == body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ],
)
async def test_answers_that_are_none(ask: Any, raw: bytes) -> None:
    with pytest.raises(HTTPExchangeError):
        await ask(raw)


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "h", "/a b"),
        Request("GET", "h", "/a\r\nX: y"),
        Request("GET", "h\n", "/"),
        Request("GET", "h", "/é"),
        Request("GET", "h", ""),
        Request("GET", "h", "/", {"A": "b\r\nC: d"}),
        Request("GET", "h", "/", {"A ": "b"}),
    ],
)
def test_what_could_say_more_than_it_should_is_not_sent(request_: Request) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        request_.encode()
