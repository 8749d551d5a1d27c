"""Whatever bytes come in, `data_received` raises nothing, and every handler that began has ended afterwards."""

import asyncio
import logging
import socket
from typing import Any

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from authsec_sdk.rpc import Call, ServerLimits, ServerStats
from authsec_sdk.rpc.budget import ByteBudget
from authsec_sdk.rpc.calls import Service
from authsec_sdk.rpc.client_protocol import ClientProtocol
from authsec_sdk.rpc.paced_log import PacedLog
from authsec_sdk.rpc.peer import Peer
from authsec_sdk.rpc.protocol import Http2Protocol
from authsec_sdk.rpc.server_protocol import ServerProtocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = st.sampled_from([0, 1, 2, 3, 5, 7, 9, 2**31 - 1])
METHODS = ["/interop.Echo/Unary", "/interop.Echo/Chat", "/interop.Echo/Sleep", "/x", ""]


class Wire(asyncio.Transport):
    """A transport into nowhere."""

    def __init__(self, protocol: Http2Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._closing = False
        self.written = 0

    def write(self, data: Any) -> None:
        assert not self._closing
        self.written += len(data)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        return draw(st.binary(max_size=60))
    fields = [
        (":method", draw(st.sampled_from(["POST", "GET"]))),
        (":path", draw(st.sampled_from(METHODS))),
        (":status", draw(st.sampled_from(["200", "103", "x"]))),
        ("content-type", draw(st.sampled_from(["application/grpc", "text/plain"]))),
        ("grpc-status", draw(st.sampled_from(["0", "7", "x"]))),
        ("grpc-timeout", draw(st.sampled_from(["1S", "x", "1n"]))),
        ("content-length", draw(st.sampled_from(["0", "7", "x"]))),
    ]
    return Encoder().encode(draw(st.lists(st.sampled_from(fields), max_size=7)))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    stream = draw(STREAMS)
    flags = draw(st.lists(st.sampled_from(["END_STREAM", "END_HEADERS"]), unique=True))
    kinds: list[Frame] = [
        HeadersFrame(stream or 1, data=draw(blocks()), flags=flags),
        ContinuationFrame(stream or 1, data=draw(blocks()), flags=[f for f in flags if f == "END_HEADERS"]),
        DataFrame(stream or 1, data=draw(st.binary(max_size=40)), flags=[f for f in flags if f == "END_STREAM"]),
        RstStreamFrame(stream or 1, error_code=draw(st.integers(0, 20))),
        PingFrame(0, opaque_data=b"12345678", flags=draw(st.sampled_from([[], ["ACK"]]))),
        PriorityFrame(stream or 1, depends_on=stream),
        SettingsFrame(0, settings=draw(st.dictionaries(st.integers(1, 9), st.integers(0, 2**32 - 1), max_size=3))),
        SettingsFrame(0, flags=["ACK"]),
        WindowUpdateFrame(stream, window_increment=draw(st.integers(1, 2**31 - 1))),
        GoAwayFrame(0, last_stream_id=stream, error_code=draw(st.integers(0, 20)), additional_data=b"x"),
        PushPromiseFrame(stream or 1, promised_stream_id=2, data=draw(blocks()), flags=["END_HEADERS"]),
    ]
    data = bytearray(draw(st.sampled_from(kinds)).serialize())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def feed(make: Any, first: bytes, parts: list[bytes]) -> None:
    async def run() -> None:
        protocol = make()
        wire = Wire(protocol)
        protocol.connection_made(wire)
        protocol.data_received(first)
        for part in parts:
            if wire.is_closing():
                break
            protocol.data_received(part)
            await asyncio.sleep(0)
        protocol.connection.abort()
        async with asyncio.timeout(20):
            await protocol.lost.wait()
            if isinstance(protocol, ServerProtocol):
                await protocol.calls.wait()
                assert protocol.stats.calls_under_way == 0
                assert protocol.budget.used == 0
                assert not protocol.processor.streams

    asyncio.run(run())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def server_protocol(echo: Any, interceptor: Any = None) -> ServerProtocol:
    limits = ServerLimits()
    service = Service(echo.Echo().__mapping__(), limits, interceptor)
    with socket.socket() as sock:
        peer = Peer(sock, "fuzz")
    log = PacedLog(logging.getLogger("fuzz"))
    return ServerProtocol(service, peer, ByteBudget(limits.max_buffered), ServerStats(), None, log)


@settings(deadline=None, max_examples=100)
@given(parts=st.lists(frames(), max_size=25))
def test_hostile_clients(echo: Any, parts: list[bytes]) -> None:
    feed(lambda: server_protocol(echo), PREFACE + SettingsFrame(0).serialize(), parts)


def request(stream: int) -> bytes:
    fields = {":method": "POST", ":path": "/interop.Echo/Sleep", "content-type": "application/grpc"}
    return HeadersFrame(stream, data=Encoder().encode(fields), flags=["END_HEADERS"]).serialize()


@pytest.mark.parametrize(
    "parts",
    [
        [request(1) + RstStreamFrame(1, error_code=8).serialize()],
        [request(1), RstStreamFrame(1, error_code=8).serialize()],
        [GoAwayFrame(0, error_code=1).serialize() + request(1)],
        [request(1) + GoAwayFrame(0, error_code=1).serialize() + request(3)],
    ],
    ids=["reset at once", "reset later", "gone before", "gone between"],
)
def test_calls_of_a_client_that_leaves_at_once_leave_nothing(echo: Any, parts: list[bytes]) -> None:
    """A task that is cancelled before its first step runs none of its cleanup; a closed connection begins none."""
    begun = 0

    async def interceptor(call: Call, proceed: Any) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    feed(lambda: server_protocol(echo, interceptor), PREFACE + SettingsFrame(0).serialize(), parts)
    assert begun == (1 if len(parts) == 2 else 0)


@settings(deadline=None, max_examples=100)
@given(parts=st.lists(frames(), max_size=25))
def test_hostile_servers(parts: list[bytes]) -> None:
    def make() -> ClientProtocol:
        return ClientProtocol("x", max_receive_bytes=1000, keepalive=None, keepalive_timeout=1)

    feed(make, SettingsFrame(0).serialize(), parts)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_anything_at_all(data: bytes) -> None:
    feed(lambda: ClientProtocol("x", max_receive_bytes=9, keepalive=None, keepalive_timeout=1), data, [data])
