"""Our channel against servers that stall, lie, vanish and break the protocol; each played by hand."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from authsec_sdk.rpc import CallTerminatedError, Channel, GRPCError, Server, Status
from authsec_sdk.rpc.connection import monotonic

pytestmark = pytest.mark.anyio
GOOD = (("content-type", "application/grpc"),)


class Script:
    """One accepted connection of a server played by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = Encoder(), Decoder()

    def write(self, *parts: bytes | Frame) -> None:
        self.writer.write(b"".join(part if isinstance(part, bytes) else part.serialize() for part in parts))

    def settings(self, **values: int) -> None:
        self.write(SettingsFrame(0, settings={getattr(SettingsFrame, k): v for k, v in values.items()}))

    def headers(self, stream: int, *fields: tuple[str, str], status: str | None = "200", end: bool = False) -> Frame:
        pseudo = [] if status is None else [(":status", status)]
        flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
        return HeadersFrame(stream, data=self.encoder.encode([*pseudo, *fields]), flags=flags)

    def trailers(self, stream: int, *fields: tuple[str, str]) -> Frame:
        return self.headers(stream, *(fields or (("grpc-status", "0"),)), status=None, end=True)

    async def frame(self) -> Frame:
        header = await self.reader.readexactly(9)
        frame, length = Frame.parse_frame_header(memoryview(header))
        frame.parse_body(memoryview(await self.reader.readexactly(length)))
        if isinstance(frame, HeadersFrame | ContinuationFrame):
            frame.fields = dict(self.decoder.decode(frame.data))
        return frame

    async def until(self, *kinds: type[Frame]) -> Frame:
        while not isinstance(frame := await self.frame(), kinds):
            pass
        return frame

    async def request(self) -> int:
        """Read up to a request's end; its stream."""
        while True:
            frame = await self.frame()
            if "END_STREAM" in frame.flags:
                return frame.stream_id

    async def answer(self, stream: int) -> None:
        self.write(self.headers(stream, *GOOD), DataFrame(stream, data=bytes(5)), self.trailers(stream))


@asynccontextmanager
async def played(
    path: Path, *scripts: Callable[[Script], Awaitable[None]], **options: Any
) -> AsyncIterator[tuple[Channel, list[Script]]]:
    """A server that plays one script a connection (the last one again), and a channel to it."""
    connections: list[Script] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        script = Script(reader, writer)
        connections.append(script)
        try:
            await reader.readexactly(24)
            await scripts[min(len(connections), len(scripts)) - 1](script)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        async with Channel.unix(str(path), **options) as channel:
            yield channel, connections
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def outcome(call: Awaitable[Any]) -> GRPCError:
    with anyio.fail_after(30), pytest.raises(GRPCError) as caught:
        await call
    return caught.value


@pytest.fixture
def path(short_dir: Path) -> Path:
    return short_dir / "played"


# --- connecting


async def test_nobody_there(echo: Any, path: Path) -> None:
    async with Channel.unix(str(path), max_backoff=0) as channel:
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
    assert error.status is Status.UNAVAILABLE
    assert isinstance(error.__cause__, FileNotFoundError)
    assert str(path) in str(error.message)


async def test_a_server_that_says_nothing(echo: Any, path: Path) -> None:
    async def script(s: Script) -> None:
        await s.reader.read()

    async with played(path, script, connect_timeout=0.2) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
    assert error.status is Status.UNAVAILABLE
    assert "no answer within 0.2 s" in str(error.message)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, b"\xff" * 100])
async def test_a_server_that_is_not_http2(echo: Any, path: Path, data: bytes) -> None:
    async def script(s: Script) -> None:
        s.write(data)
        await s.writer.drain()

    async with played(path, script, connect_timeout=5, max_backoff=0) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
    assert error.status is Status.UNAVAILABLE
    assert isinstance(error.__cause__, ConnectionError)


async def test_a_deadline_holds_while_connecting(echo: Any, path: Path) -> None:
    async def script(s: Script) -> None:
        await s.reader.read()

    async with played(path, script) as (channel, connections):
        stub = echo.EchoStub(channel)
        assert (await outcome(stub.Unary(echo.Bytes(), timeout=0.1))).status is Status.DEADLINE_EXCEEDED
        assert (await outcome(stub.Unary(echo.Bytes(), timeout=0.1))).status is Status.DEADLINE_EXCEEDED
        assert len(connections) == 1  # the attempt outlives the caller that gave up


async def test_attempts_back_off_and_callers_share_them(echo: Any, path: Path) -> None:
    async def script(s: Script) -> None:
        return

    async with played(path, script, max_backoff=0.05) as (channel, connections):
        stub = echo.EchoStub(channel)
        errors: list[GRPCError] = []

        async def call() -> None:
            errors.append(await outcome(stub.Unary(echo.Bytes())))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(call)
        assert len(errors) == 50
        assert len(connections) == 1
        await call()
        assert len(connections) == 2


async def test_no_attempt_before_its_time(echo: Any, path: Path) -> None:
    times: list[float] = []

    async def script(s: Script) -> None:
        times.append(monotonic())

    async with played(path, script, max_backoff=0.3) as (channel, _):
        for _ in range(8):
            await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
            allowed = channel._endpoints[0].not_before
            await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
            assert times[-1] >= allowed


async def connecting(s: Script) -> None:
    await s.reader.read()


async def calling(s: Script) -> None:
    s.settings()
    await s.reader.read()


@pytest.mark.parametrize("script", [connecting, calling])
async def test_closing_while_connecting_and_calling(echo: Any, path: Path, script: Any) -> None:
    async with played(path, script) as (channel, connections):
        stub = echo.EchoStub(channel)
        async with anyio.create_task_group() as group:
            errors: list[GRPCError] = []

            async def call() -> None:
                errors.append(await outcome(stub.Unary(echo.Bytes())))

            group.start_soon(call)
            while not connections:
                await anyio.sleep(0.01)
            await anyio.sleep(0.05)
            await channel.close()
        assert [error.status for error in errors] == [Status.CANCELLED]
        assert (await outcome(stub.Unary(echo.Bytes()))).status is Status.CANCELLED


async def test_closing_at_any_moment_of_connecting_leaves_no_socket_open() -> None:
    """asyncio's race for the fastest address would, cancelled just when the socket connects."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for steps in range(14):
            channel = Channel.tcp("127.0.0.1", port)
            connecting = asyncio.ensure_future(channel.__connect__())
            for _ in range(steps):
                await asyncio.sleep(0)
            connecting.cancel()
            await channel.close()
            await asyncio.gather(connecting, return_exceptions=True)
            await asyncio.sleep(0.01)
            gc.collect()
    server.close()
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)] == []


async def test_addresses_in_turn_and_around_one_that_is_gone(echo: Any) -> None:
    async with Server([echo.Echo()]) as one, Server([echo.Echo()]) as two:
        addresses = [await one.listen_tcp("127.0.0.1", 0), await two.listen_tcp("127.0.0.1", 0)]
        async with Channel.addresses(addresses, max_backoff=0.2) as channel:
            stub = echo.EchoStub(channel)
            for _ in range(20):
                await stub.Unary(echo.Bytes(), timeout=30)
            assert (one.stats.calls_started, two.stats.calls_started) == (10, 10)
            await one.close()
            for _ in range(20):
                await stub.Unary(echo.Bytes(), timeout=30)
            assert two.stats.calls_started == 30
            await two.close()
            assert (await outcome(stub.Unary(echo.Bytes()))).status is Status.UNAVAILABLE


def test_a_channel_needs_an_address() -> None:
    with pytest.raises(ValueError, match="address"):
        Channel([])


async def test_a_channel_left_open_is_noticed(echo: Any, serve: Any) -> None:
    async with serve() as served:
        channel = Channel.unix(served.path)
        await echo.EchoStub(channel).Unary(echo.Bytes())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del channel
            gc.collect()
            await asyncio.sleep(0.05)
        assert any(w.category is ResourceWarning and "unclosed Channel" in str(w.message) for w in caught)


# --- answers


def trailers_only(*fields: tuple[str, str], status: str = "200") -> Callable[[Script], Awaitable[None]]:
    async def script(s: Script) -> None:
        s.settings()
        s.write(s.headers(await s.request(), *fields, status=status, end=True))
        await s.reader.read()

    return script


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        (trailers_only(*GOOD, ("grpc-status", "7"), ("grpc-message", "n%C3%B6")), Status.PERMISSION_DENIED, "nö"),
        (trailers_only(*GOOD, ("grpc-status", "7"), ("grpc-message", "%%%zz")), Status.PERMISSION_DENIED, "%%%zz"),
        (trailers_only(*GOOD, ("grpc-status", "99")), Status.UNKNOWN, "invalid grpc-status: '99'"),
        (trailers_only(*GOOD, ("grpc-status", "x" * 9)), Status.UNKNOWN, "invalid grpc-status: 'xxxxxxxxx'"),
        (trailers_only(*GOOD), Status.UNKNOWN, "missing grpc-status"),
        (trailers_only(*GOOD, ("grpc-status", "0"), ("x-bin", "a")), Status.INTERNAL, "malformed response headers"),
        (trailers_only(*GOOD, ("grpc-status", "5"), ("grpc-status-details-bin", "?")), Status.NOT_FOUND, None),
        (
            trailers_only(*GOOD, ("grpc-status", "0")),
            Status.INTERNAL,
            "the call ended well without an answer",
        ),
        (trailers_only(status="503"), Status.UNAVAILABLE, "Received :status = '503'"),
        (trailers_only(("content-type", "text/html")), Status.UNKNOWN, "Invalid content-type: 'text/html'"),
        (trailers_only(), Status.UNKNOWN, "Missing content-type header"),
    ],
)
async def test_answers_of_headers_alone(echo: Any, path: Path, script: Any, status: Status, message: str) -> None:
    async with played(path, script) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
    assert (error.status, error.message) == (status, message)


def after_headers(*parts: Callable[[Script, int], bytes | Frame]) -> Callable[[Script], Awaitable[None]]:
    async def script(s: Script) -> None:
        s.settings()
        stream = await s.request()
        s.write(s.headers(stream, *GOOD))
        for part in parts:
            s.write(part(s, stream))
        await s.reader.read()

    return script


def reset(code: int) -> Callable[[Script], Awaitable[None]]:
    return after_headers(lambda _, stream: RstStreamFrame(stream, error_code=code))


def data(content: bytes, *, end: bool = False) -> Callable[[Script, int], Frame]:
    return lambda _, stream: DataFrame(stream, data=content, flags=["END_STREAM"] if end else [])


BREAKS: dict[str, tuple[Any, Status]] = {
    "reset NO_ERROR without a status": (reset(0), Status.INTERNAL),
    "reset CANCEL": (reset(8), Status.CANCELLED),
    "reset ENHANCE_YOUR_CALM": (reset(11), Status.RESOURCE_EXHAUSTED),
    "reset INADEQUATE_SECURITY": (reset(12), Status.PERMISSION_DENIED),
    "reset by an unknown code": (reset(1234), Status.INTERNAL),
    "two answers": (after_headers(data(bytes(10)), lambda s, n: s.trailers(n)), Status.INTERNAL),
    "answers without end": (after_headers(data(bytes(10))), Status.INTERNAL),
    "no answer": (after_headers(lambda s, n: s.trailers(n)), Status.INTERNAL),
    "prefix of 4 GiB": (after_headers(data(b"\0\xff\xff\xff\xff")), Status.RESOURCE_EXHAUSTED),
    "compressed": (after_headers(data(b"\1\0\0\0\1x")), Status.UNIMPLEMENTED),
    "not a message": (after_headers(data(b"\0\0\0\0\1\xff")), Status.INTERNAL),
    "half a message": (after_headers(data(b"\0\0\0\0\5x", end=True)), Status.INTERNAL),
    "no trailers": (after_headers(data(b"\0\0\0\0\0", end=True)), Status.UNKNOWN),
    "a status that is no number": (
        after_headers(data(bytes(5)), lambda s, n: s.trailers(n, ("grpc-status", "0_0"))),
        Status.UNKNOWN,
    ),
    "no message, no trailers": (after_headers(data(b"", end=True)), Status.UNKNOWN),
    "trailers without a status": (after_headers(lambda s, n: s.trailers(n, ("x", "y"))), Status.UNKNOWN),
    "data on a stream never opened": (after_headers(lambda *_: DataFrame(9, data=b"x")), Status.UNAVAILABLE),
    "a pushed stream": (after_headers(lambda s, _: s.headers(2, *GOOD)), Status.UNAVAILABLE),
    "a frame of 16 MiB": (after_headers(lambda *_: b"\xff\xff\xff\0\0\0\0\0\1"), Status.UNAVAILABLE),
    "a window that overflows": (
        after_headers(lambda *_: WindowUpdateFrame(0, window_increment=2**31 - 1)),
        Status.UNAVAILABLE,
    ),
    "headers without end": (
        after_headers(lambda *_: HeadersFrame(1, data=b"x" * 16000), lambda *_: ContinuationFrame(1).serialize() * 99),
        Status.UNAVAILABLE,
    ),
    "garbage": (after_headers(lambda *_: b"\xde\xad\xbe\xef" * 9000), Status.UNAVAILABLE),
    "GOAWAY with an error": (
        after_headers(lambda *_: GoAwayFrame(0, last_stream_id=1, error_code=11, additional_data=b"too_many_pings")),
        Status.UNAVAILABLE,
    ),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_servers_that_break_the_protocol(echo: Any, path: Path, name: str) -> None:
    script, status = BREAKS[name]
    async with played(path, script) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes(), timeout=20))
        assert error.status is status


def unknown(kind: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + body


async def test_frames_of_kinds_nobody_knows_are_ignored(echo: Any, path: Path) -> None:
    """RFC 9113 5.5; an ALTSVC, an ORIGIN, a PRIORITY_UPDATE and a 103 are all events grpclib raises on."""

    async def script(s: Script) -> None:
        s.settings()
        s.write(unknown(0xBE, 0, b"x"), unknown(0x0C, 0, b"x"), unknown(0x10, 0, b""))
        s.write(unknown(0x0A, 0, b'\0\1ah2=":443"'))
        stream = await s.request()
        s.write(s.headers(stream, status="103"), PriorityFrame(stream), unknown(0xBE, stream, b"x"))
        await s.answer(stream)
        await s.reader.read()

    async with played(path, script) as (channel, _):
        await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=20)


async def test_an_answer_before_the_request_has_ended(echo: Any, path: Path) -> None:
    """RFC 9113 8.1: trailers, RST_STREAM(NO_ERROR); the answer counts, whatever we still send."""

    async def script(s: Script) -> None:
        s.settings()
        stream = (await s.until(HeadersFrame)).stream_id
        await s.answer(stream)
        s.write(RstStreamFrame(stream, error_code=0))
        stream = await s.request()
        s.write(s.headers(stream, *GOOD, ("grpc-status", "9"), end=True), RstStreamFrame(stream, error_code=0))
        await s.reader.read()

    async with played(path, script) as (channel, _):
        stub = echo.EchoStub(channel)
        with anyio.fail_after(30):
            async with stub.Chat.open() as call:
                await call.send_request()
                assert await call.recv_message() == echo.Bytes()
                await anyio.sleep(0.05)
                for _ in range(20):
                    await call.send_message(echo.Bytes(value=bytes(100_000)))
                assert await call.recv_message() is None
                await call.end()
        assert (await outcome(stub.Unary(echo.Bytes()))).status is Status.FAILED_PRECONDITION


async def test_a_sender_that_waits_for_window_is_told_of_the_end(echo: Any, path: Path) -> None:
    async def script(s: Script) -> None:
        s.settings(INITIAL_WINDOW_SIZE=10)
        stream = (await s.until(DataFrame)).stream_id
        await s.answer(stream)
        await s.reader.read()

    async with played(path, script) as (channel, _):
        with anyio.fail_after(30):
            async with echo.EchoStub(channel).CollectFirst.open() as call:
                await call.send_message(echo.Bytes(value=bytes(100_000)))
                assert (await call.recv_message()).value == 0


async def test_the_status_that_came_before_the_connection_went(echo: Any, path: Path) -> None:
    async def script(s: Script) -> None:
        s.settings()
        stream = await s.request()
        s.write(s.headers(stream, *GOOD), s.trailers(stream, ("grpc-status", "14"), ("grpc-message", "bye")))
        await s.writer.drain()

    async with played(path, script) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Endless(echo.Bytes()))
    assert (error.status, error.message) == (Status.UNAVAILABLE, "bye")


# --- leaving


async def test_graceful_goaway(echo: Any, path: Path) -> None:
    """RFC 9113 6.8, as grpc-go does it: calls in flight live, the PING is answered, the next call goes elsewhere."""
    acked: list[bytes] = []

    async def first(s: Script) -> None:
        s.settings()
        stream = await s.request()
        s.write(GoAwayFrame(0, last_stream_id=2**31 - 1), PingFrame(0, opaque_data=b"goodbye!"))
        ack = await s.until(PingFrame)
        acked.append(ack.opaque_data)
        s.write(GoAwayFrame(0, last_stream_id=stream))
        await asyncio.sleep(0.1)
        await s.answer(stream)
        await s.reader.read()

    async def second(s: Script) -> None:
        s.settings()
        await s.answer(await s.request())
        await s.reader.read()

    async with played(path, first, second) as (channel, connections):
        stub = echo.EchoStub(channel)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: stub.Unary(echo.Bytes(), timeout=20))
            with anyio.fail_after(20):
                while not acked:
                    await anyio.sleep(0.01)
            await stub.Unary(echo.Bytes(), timeout=20)
        assert len(connections) == 2


async def test_calls_the_server_did_not_begin_are_sent_again(echo: Any, path: Path) -> None:
    """RFC 9113 8.7."""

    async def leaving(s: Script) -> None:
        s.settings()
        await s.until(DataFrame)  # the rest waits for window
        s.write(GoAwayFrame(0, last_stream_id=0))
        await s.reader.read()

    async def refusing(s: Script) -> None:
        s.settings(INITIAL_WINDOW_SIZE=2**20)
        s.write(WindowUpdateFrame(0, window_increment=2**20))
        s.write(RstStreamFrame(await s.request(), error_code=7))
        await s.answer(await s.request())
        await s.reader.read()

    async with played(path, leaving, refusing) as (channel, connections):
        message = echo.Bytes(value=b"x" * 100_000)
        assert await echo.EchoStub(channel).Unary(message, timeout=20) == echo.Bytes()
        assert len(connections) == 2


@pytest.mark.parametrize(
    "denial",
    [lambda n: RstStreamFrame(n, error_code=7), lambda n: GoAwayFrame(0, last_stream_id=n - 1)],
    ids=["REFUSED_STREAM", "GOAWAY"],
)
async def test_a_call_that_was_answered_is_not_sent_again_whatever_the_server_says(
    echo: Any, path: Path, denial: Any
) -> None:
    """Its handler ran: to send the call again could do twice what must be done once."""
    requests = 0

    async def script(s: Script) -> None:
        nonlocal requests
        s.settings()
        while True:
            stream = await s.request()
            requests += 1
            s.write(s.headers(stream, *GOOD), denial(stream))

    async with played(path, script) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes(), timeout=20))
        assert (error.status, requests) == (Status.UNAVAILABLE, 1)


async def test_a_server_that_greets_with_goaway_is_not_called_in_a_circle(echo: Any, path: Path) -> None:
    """Each connection works and none takes a call: that has to count as a failure, with its backoff."""

    async def script(s: Script) -> None:
        s.write(SettingsFrame(0), GoAwayFrame(0, last_stream_id=0))
        await s.reader.read()

    async with played(path, script) as (channel, connections):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes(), timeout=20))
        assert (error.status, len(connections)) == (Status.UNAVAILABLE, 1)
        assert "GOAWAY" in str(error)


async def test_a_server_that_asks_and_reads_no_answer_is_left(echo: Any, path: Path) -> None:
    """Each of its PINGs has us keep an answer: that is bounded, or a server could fill its clients' memory."""
    pings = PingFrame(0, opaque_data=b"abcdefgh").serialize() * 10_000

    async def script(s: Script) -> None:
        s.settings()
        await s.request()
        s.writer.transport.pause_reading()
        while True:
            s.write(pings)
            await s.writer.drain()

    async with played(path, script) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
        assert error.status is Status.UNAVAILABLE
        assert "does not read" in str(error)


async def test_calls_are_not_sent_again_for_ever_and_streams_never(echo: Any, path: Path) -> None:
    requests = 0

    async def script(s: Script) -> None:
        nonlocal requests
        s.settings()
        while True:
            stream = await s.request()
            requests += 1
            s.write(RstStreamFrame(stream, error_code=7))

    async with played(path, script) as (channel, _):
        stub = echo.EchoStub(channel)
        error = await outcome(stub.Unary(echo.Bytes()))
        assert (error.status, requests) == (Status.UNAVAILABLE, 3)
        error = await outcome(stub.Chat([echo.Bytes()]))
        assert (error.status, requests) == (Status.UNAVAILABLE, 4)
        assert isinstance(error, CallTerminatedError)
        assert error.unprocessed


async def test_waiting_for_a_free_stream_ends_with_the_connection(echo: Any, path: Path) -> None:
    """grpclib waits for ever for a stream of a connection that is gone."""

    async def first(s: Script) -> None:
        s.settings(MAX_CONCURRENT_STREAMS=1)
        await s.request()
        await asyncio.sleep(0.2)

    async def second(s: Script) -> None:
        s.settings()
        await s.answer(await s.request())
        await s.reader.read()

    async with played(path, first, second) as (channel, _):
        stub = echo.EchoStub(channel)
        async with anyio.create_task_group() as group:
            errors: list[GRPCError] = []

            async def lost() -> None:
                errors.append(await outcome(stub.Unary(echo.Bytes())))

            group.start_soon(lost)
            await anyio.sleep(0.1)
            with anyio.fail_after(20):
                await stub.Unary(echo.Bytes())
        assert [error.status for error in errors] == [Status.UNAVAILABLE]


async def test_leaving_a_call_resets_it(echo: Any, path: Path) -> None:
    codes: list[int] = []

    async def script(s: Script) -> None:
        s.settings()
        while True:
            stream = await s.request()
            s.write(s.headers(stream, *GOOD), DataFrame(stream, data=bytes(5)))
            codes.append((await s.until(RstStreamFrame)).error_code)

    async with played(path, script) as (channel, _):
        stub = echo.EchoStub(channel)
        with anyio.fail_after(20):
            async with stub.Endless.open() as call:
                await call.send_message(echo.Bytes(), end=True)
                await call.recv_message()
            async with stub.Endless.open() as call:
                await call.send_message(echo.Bytes(), end=True)
                await call.cancel()
                await call.cancel()
            with pytest.raises(ZeroDivisionError):
                async with stub.Endless.open() as call:
                    await call.send_message(echo.Bytes(), end=True)
                    raise ZeroDivisionError
            while len(codes) < 3:
                await anyio.sleep(0.01)
    assert codes == [8, 8, 8]


async def test_keepalive_finds_a_server_that_is_gone(echo: Any, path: Path) -> None:
    async def script(s: Script) -> None:
        s.settings()
        await s.request()
        await asyncio.sleep(60)

    async with played(path, script, keepalive=0.1, keepalive_timeout=0.1) as (channel, _):
        error = await outcome(echo.EchoStub(channel).Unary(echo.Bytes()))
    assert error.status is Status.UNAVAILABLE
    assert "keepalive" in str(error.message)


async def test_keepalive_lets_a_slow_server_be(echo: Any, path: Path) -> None:
    pings = 0

    async def script(s: Script) -> None:
        nonlocal pings
        s.settings()
        stream = await s.request()
        while pings < 4:
            ping = await s.until(PingFrame)
            pings += 1
            s.write(PingFrame(0, opaque_data=ping.opaque_data, flags=["ACK"]))
        await s.answer(stream)
        await s.reader.read()

    async with played(path, script, keepalive=0.1, keepalive_timeout=5) as (channel, _):
        await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=20)
    assert pings == 4


async def test_a_connection_that_swallowed_a_call_is_not_used_again(echo: Any, path: Path) -> None:
    async def first(s: Script) -> None:
        s.settings()
        await asyncio.sleep(60)

    async def second(s: Script) -> None:
        s.settings()
        await s.answer(await s.request())
        await s.reader.read()

    async with played(path, first, second) as (channel, connections):
        stub = echo.EchoStub(channel)
        async with stub.Chat.open() as call:
            await call.send_request()
            await anyio.sleep(0.05)
        assert (await outcome(stub.Unary(echo.Bytes(), timeout=0.2))).status is Status.DEADLINE_EXCEEDED
        await stub.Unary(echo.Bytes(), timeout=20)
        assert len(connections) == 2


# --- the task that calls


async def test_a_failed_call_leaves_no_trace_in_the_task(echo: Any, path: Path) -> None:
    """grpclib cancels the task and does not take it back: a task group entered later would fall apart."""
    task = asyncio.current_task()
    assert task is not None

    async def script(s: Script) -> None:
        s.settings()
        await s.reader.read()

    async with played(path, script) as (channel, _):
        before = task.cancelling()
        assert (await outcome(echo.EchoStub(channel).Unary(echo.Bytes(), timeout=0.1))).status
        assert task.cancelling() == before
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=60)
        with anyio.move_on_after(0.05) as scope:
            await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=60)
        assert scope.cancelled_caught


async def test_cancellation_and_deadline_at_the_same_moment(echo: Any, path: Path) -> None:
    async def script(s: Script) -> None:
        s.settings()
        await s.reader.read()

    async with played(path, script) as (channel, _):
        stub = echo.EchoStub(channel)
        for _ in range(20):
            task = asyncio.ensure_future(stub.Unary(echo.Bytes(), timeout=0.02))
            asyncio.get_running_loop().call_later(0.02, task.cancel)
            done, _pending = await asyncio.wait({task}, timeout=20)
            assert done
            assert task.cancelled() or isinstance(task.exception(), GRPCError)
