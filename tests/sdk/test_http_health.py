"""Liveness and readiness over HTTP, asked by probes and by those who would rather harm."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
from anyio.abc import ByteStream

from authsec_sdk.http_health import MAX_CONNECTIONS, MAX_REQUEST_BYTES, HealthListener, HealthState

pytestmark = pytest.mark.anyio

Ask = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def well() -> HealthState:
    return HealthState(healthy=True, details={"server": {}})


async def ill() -> HealthState:
    return HealthState(healthy=False, details={"server": {"error": "no bundle"}})


async def broken() -> HealthState:
    raise RuntimeError("no details for strangers")


@pytest.fixture
async def listener() -> AsyncIterator[HealthListener]:
    made = HealthListener({"/live": well, "/ready": ill, "/broken": broken})
    yield made
    await made.close()


@pytest.fixture
async def address(listener: HealthListener) -> tuple[str, int]:
    return await listener.listen("127.0.0.1", 0)


@pytest.fixture
def ask(address: tuple[str, int]) -> Ask:
    """Send bytes and read all that comes back."""

    async def send(data: bytes) -> bytes:
        async with await anyio.connect_tcp(*address) as stream:
            with anyio.fail_after(20):
                await stream.send(data)
                return await everything(stream)

    return send


async def everything(stream: ByteStream) -> bytes:
    answer = b""
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            answer += await stream.receive()
    return answer


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n", 200, b'{"server":{}}\n'),
        (b"GET /live?full=1 HTTP/1.0\r\n\r\n", 200, b'{"server":{}}\n'),
        (b"HEAD /live HTTP/1.1\r\n\r\n", 200, b""),
        (b"GET /ready HTTP/1.1\r\n\r\n", 500, b'{"server":{"error":"no bundle"}}\n'),
        (b"HEAD /ready HTTP/1.1\r\n\r\n", 500, b""),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500, b"{}\n"),
        (b"GET / HTTP/1.1\r\n\r\n", 404, b""),
        (b"GET /../live HTTP/1.1\r\n\r\n", 404, b""),
        (b"GET /\xff\x00 HTTP/1.1\r\n\r\n", 404, b""),
        (b"POST /live HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405, b""),
        (b"get /live HTTP/1.1\r\n\r\n", 405, b""),
        (b"GET /live\r\n\r\n", 400, b""),
        (b"GET  /live HTTP/1.1\r\n\r\n", 400, b""),
        (b"GET /live HTTP/2.0\r\n\r\n", 400, b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, b""),
        (b"\r\n\r\n", 400, b""),
    ],
)
async def test_each_request_has_one_answer(ask: Ask, request_: bytes, status: int, body: bytes) -> None:
    head, _, content = (await ask(request_)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert content == body


async def test_what_a_probe_raises_is_told_to_the_operator_alone(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    assert b"strangers" not in await ask(b"GET /broken HTTP/1.1\r\n\r\n")
    assert "no details for strangers" in caplog.text


async def test_a_request_that_never_ends_is_cut_off(ask: Ask) -> None:
    answer = await ask(b"GET /live HTTP/1.1\r\nX: " + b"a" * (2 * MAX_REQUEST_BYTES))
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_who_stops_in_the_middle_of_asking_is_let_go() -> None:
    impatient = HealthListener({"/live": well}, timeout=0.1)
    async with await anyio.connect_tcp(*await impatient.listen("127.0.0.1", 0)) as stream:
        await stream.send(b"GET /live HTTP/1.1\r\n")
        with anyio.fail_after(20):
            assert await everything(stream) == b""
    await impatient.close()


async def test_who_leaves_harms_nobody(ask: Ask, address: tuple[str, int]) -> None:
    for data in (b"", b"GET /live HTTP/1.1\r\n\r\n"):
        with socket.create_connection(address) as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by RST
            stream.send(data)
    assert (await ask(b"GET /live HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_too_many_at_once_are_told_so_and_then_it_goes_on(ask: Ask, address: tuple[str, int]) -> None:
    async with contextlib.AsyncExitStack() as silent:
        for _ in range(MAX_CONNECTIONS):
            await silent.enter_async_context(await anyio.connect_tcp(*address))
        assert (await ask(b"GET /live HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    with anyio.fail_after(20):
        while not (await ask(b"GET /live HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 "):
            await anyio.sleep(0.01)


async def test_closing_waits_for_nobody_and_leaves_nothing() -> None:
    listener = HealthListener({"/live": well}, timeout=3600)
    before = asyncio.all_tasks()
    async with await anyio.connect_tcp(*await listener.listen("127.0.0.1", 0)) as stream:
        await stream.send(b"GET /live")
        with anyio.fail_after(20):
            while asyncio.all_tasks() <= before:
                await anyio.sleep(0.01)
            await listener.close()
            assert await everything(stream) == b""
    assert asyncio.all_tasks() <= before
    await listener.close()
