"""Our server and our channel together: listening, accepting, serving, bounding, draining."""

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)

from authsec_sdk.proto import any_pb2, status_pb2, wrappers_pb2
from authsec_sdk.rpc import (
    Call,
    CallTerminatedError,
    Channel,
    GRPCError,
    Peer,
    Server,
    ServerLimits,
    Status,
    current_call,
    error_details,
)

pytestmark = pytest.mark.anyio


async def eventually(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


async def status_of(call: Awaitable[Any]) -> Status:
    with pytest.raises(GRPCError) as caught:
        await call
    return caught.value.status


# --- listening


async def test_a_socket_with_a_mode_gone_with_the_server(echo: Any, short_dir: Path) -> None:
    path = short_dir / "s"
    async with Server([echo.Echo()]) as server:
        await server.listen_unix(path, mode=0o700)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        async with Channel.unix(str(path)) as channel:
            await echo.EchoStub(channel).Unary(echo.Bytes())
    assert not path.exists()


async def test_a_stale_socket_is_replaced_a_used_one_is_not(echo: Any, short_dir: Path) -> None:
    path = short_dir / "s"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    async with Server([echo.Echo()]) as server, Server([echo.Echo()]) as second:
        await server.listen_unix(path)
        with pytest.raises(OSError, match="another process listens"):
            await second.listen_unix(path)
        (short_dir / "file").write_text("precious")
        with pytest.raises(OSError, match="file in the socket's place"):
            await second.listen_unix(short_dir / "file")
    assert (short_dir / "file").read_text() == "precious"


async def test_a_socket_that_replaced_ours_stays(echo: Any, short_dir: Path) -> None:
    path = short_dir / "s"
    async with Server([echo.Echo()]) as server:
        await server.listen_unix(path)
        path.unlink()
        path.write_text("somebody else's")
    assert path.exists()


async def test_abstract_sockets(echo: Any) -> None:
    name = f"\0authsec-test-{os.getpid()}"
    async with Server([echo.Echo()]) as server:
        await server.listen_unix(name)
        for path in (name, name.encode()):
            async with Channel.unix(path) as channel:
                await echo.EchoStub(channel).Unary(echo.Bytes())


async def test_tcp_on_every_address_of_a_host(echo: Any) -> None:
    async with Server([echo.Echo()]) as server:
        host, port = await server.listen_tcp("127.0.0.1", 0)
        assert host == "127.0.0.1"
        async with Channel.tcp(host, port) as channel:
            await echo.EchoStub(channel).Unary(echo.Bytes())
        with pytest.raises(OSError, match="in use"):
            await server.listen_tcp("127.0.0.1", port)


async def test_a_socket_made_elsewhere(echo: Any) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    async with Server([echo.Echo()]) as server:
        await server.listen_socket(sock)
        async with Channel.tcp(*sock.getsockname()) as channel:
            await echo.EchoStub(channel).Unary(echo.Bytes())
    assert sock.fileno() == -1


# --- accepting


async def test_on_accept_sees_the_socket_before_a_byte_is_read(serve: Any, echo: Any) -> None:
    peers: list[Peer] = []

    def on_accept(peer: Peer) -> int:
        peers.append(peer)
        data = peer.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.unpack("3i", data)[0]

    seen: list[Call] = []

    async def interceptor(call: Call, proceed: Any) -> None:
        seen.append(call)
        await proceed()

    async with serve(on_accept=on_accept, interceptor=interceptor) as served:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(served.path)
            await eventually(lambda: len(peers) == 1)
        async with Channel.unix(served.path) as channel:
            await echo.EchoStub(channel).Unary(echo.Bytes())
    assert seen[0].peer is peers[1]
    assert seen[0].peer.attachment == os.getpid()
    assert seen[0].peer.address == "unix"


async def test_a_connection_refused_at_accept(serve: Any, echo: Any, caplog: pytest.LogCaptureFixture) -> None:
    def on_accept(peer: Peer) -> None:
        raise PermissionError("no such process")

    async with serve(on_accept=on_accept) as served, Channel.unix(served.path) as channel:
        assert await status_of(echo.EchoStub(channel).Unary(echo.Bytes())) is Status.UNAVAILABLE
        assert (served.server.stats.connections_refused, served.server.connections) == (1, 0)
    assert "no such process" in caplog.text


async def test_connections_of_one_peer(serve: Any, echo: Any) -> None:
    async with serve(max_connections_per_peer=2) as served:
        channels = [Channel.unix(served.path) for _ in range(3)]
        calls = []
        for channel in channels[:2]:
            call = echo.EchoStub(channel).Endless.open()
            await call.__aenter__()
            await call.send_message(echo.Bytes(), end=True)
            await call.recv_message()
            calls.append(call)
        assert await status_of(echo.EchoStub(channels[2]).Unary(echo.Bytes())) is Status.UNAVAILABLE
        assert served.server.stats.connections_refused == 1
        await calls[0].__aexit__(None, None, None)
        await eventually(lambda: served.service.counts["cancelled"] == 1)
        # One of the two is idle now and makes room.
        await echo.EchoStub(channels[2]).Unary(echo.Bytes(), timeout=20)
        assert served.server.stats.connections_evicted == 1
        await calls[1].__aexit__(None, None, None)
        for channel in channels:
            await channel.close()


async def test_a_full_server_makes_room_of_the_longest_idle(serve: Any, echo: Any) -> None:
    async with serve(max_connections=2) as served:
        channels = [Channel.unix(served.path) for _ in range(4)]
        for channel in channels:
            await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=20)
        assert served.server.stats.connections_evicted == 2
        await eventually(lambda: served.server.connections <= 2)
        for channel in channels:  # those that were closed come back
            await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=20)
            await channel.close()


# --- serving


async def test_every_kind_of_call(serve: Any, echo: Any) -> None:
    messages = [echo.Bytes(value=b"x" * size) for size in (0, 1, 2_000_000)]
    async with serve() as served, Channel.unix(served.path) as channel:
        stub = echo.EchoStub(channel)
        with anyio.fail_after(60):
            assert await stub.Unary(messages[2]) == messages[2]
            assert (await stub.Collect(messages)).value == 2_000_001
            assert [m.value for m in await stub.Repeat(echo.Int64(value=300))] == list(range(300))
            assert await stub.Chat(messages) == messages
            assert await stub.Chat([]) == []
            assert (await stub.CollectFirst(messages)).value == 0
            async with stub.ChatOnce.open() as call:
                await call.send_message(messages[1])
                assert await call.recv_message() == messages[1]
                assert await call.recv_message() is None
                await call.end()
        assert served.server.buffered == 0


async def test_statuses_details_and_secrets(serve: Any, echo: Any, caplog: pytest.LogCaptureFixture) -> None:
    detail = any_pb2.Any()
    detail.Pack(wrappers_pb2.StringValue(value="why"))
    async with serve() as served, Channel.unix(served.path) as channel:
        stub = echo.EchoStub(channel)
        with pytest.raises(GRPCError) as caught:
            await stub.Fail(status_pb2.Status(code=9, message="später\t%", details=[detail]))
        assert (caught.value.status, caught.value.message) == (Status.FAILED_PRECONDITION, "später\t%")
        found = error_details(caught.value, wrappers_pb2.StringValue)
        assert found is not None
        assert found.value == "why"
        with pytest.raises(GRPCError) as caught:
            await stub.Crash(echo.Empty())
        assert (caught.value.status, caught.value.message) == (Status.INTERNAL, "internal error")
        assert "swordfish" in caplog.text
        assert await status_of(stub.Silent(echo.Empty())) is Status.INTERNAL


async def test_an_interceptor_sees_refuses_and_hands_over(serve: Any, echo: Any) -> None:
    async def interceptor(call: Call, proceed: Callable[[], Awaitable[None]]) -> None:
        assert call is current_call()
        if call.method.endswith("Collect"):
            raise GRPCError(Status.PERMISSION_DENIED, "not you", [wrappers_pb2.Int64Value(value=4)])
        call.attributes["who"] = call.metadata["who"]
        await proceed()

    async with serve(interceptor=interceptor) as served, Channel.unix(served.path) as channel:
        stub = echo.EchoStub(channel)
        await stub.Unary(echo.Bytes(), metadata={"who": "me"})
        with pytest.raises(GRPCError) as caught:
            await stub.Collect([echo.Bytes()])
        assert caught.value.status is Status.PERMISSION_DENIED
        assert error_details(caught.value, wrappers_pb2.Int64Value) is not None
    with pytest.raises(LookupError):
        current_call()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({":method": "GET"}, "405"),
        ({"content-type": "text/plain"}, "415"),
        ({"content-type": "application/grpc+json"}, "415"),
        ({"content-type": "application/grpc-web"}, "415"),
        ({":path": "/interop.Echo/Nothing"}, "12"),
        ({":path": "nonsense"}, "12"),
        ({"grpc-encoding": "gzip"}, "12"),
        ({"grpc-timeout": "yesterday"}, "13"),
        ({"x-bin": "not base64"}, "13"),
        ({"x": "\xfc"}, "0"),
        ({"content-type": "application/grpc+proto"}, "0"),
        ({"content-type": "application/grpc; charset=utf-8"}, "0"),
    ],
)
async def test_requests_by_hand(serve: Any, raw: Any, fields: dict[str, str], status: str) -> None:
    async with serve() as served, raw.connect(served.path) as client:
        headers = {":method": "POST", ":scheme": "http", ":path": "/interop.Echo/Unary", ":authority": "x"}
        headers |= {"te": "trailers", "content-type": "application/grpc"} | fields
        block = client.encoder.encode([(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()])
        client.write(HeadersFrame(1, data=block, flags=["END_HEADERS"]))
        client.write(client.data(1, client.message(b""), end=True))
        answer = await client.until(HeadersFrame)
        if status == "0":
            await client.until(DataFrame)
            answer = await client.until(HeadersFrame)
        shown = answer.fields.get("grpc-status") if len(status) < 3 else answer.fields[":status"]
        assert shown == status
        assert len(status) == 3 or status == "0" or answer.fields["content-type"] == "application/grpc"


async def test_a_message_that_is_not_one(serve: Any, raw: Any) -> None:
    async with serve() as served, raw.connect(served.path) as client:
        for stream, data in enumerate((b"\0\0\0\0\3\xff\xff\xff", b"\1\0\0\0\0", b"\0\0\0\0\7abc")):
            client.write(client.request(1 + 2 * stream, "/interop.Echo/Unary"))
            client.write(client.data(1 + 2 * stream, data, end=True))
        answers = [(await client.until(HeadersFrame, stream=s)).fields["grpc-status"] for s in (1, 3, 5)]
        assert answers == ["13", "12", "13"]


async def test_empty_data_frames_and_padding_are_no_end(serve: Any, raw: Any) -> None:
    """Rust clients end requests with an empty DATA frame; one in the middle means nothing."""
    async with serve() as served, raw.connect(served.path) as client:
        client.write(client.request(1, "/interop.Echo/Collect"), DataFrame(1))
        client.write(DataFrame(1, data=b"\0\0\0", pad_length=9, flags=["PADDED"]), DataFrame(1))
        client.write(client.data(1, b"\0\4\x0a\2ab"), DataFrame(1), client.data(1, b"", end=True))
        await client.until(HeadersFrame)
        assert (await client.until(DataFrame)).data == b"\0\0\0\0\2\x08\2"


async def test_a_call_finished_first_asks_the_client_to_stop(serve: Any, raw: Any) -> None:
    """RFC 9113 8.1: trailers, then RST_STREAM with NO_ERROR, when the client has not ended its side."""
    async with serve() as served, raw.connect(served.path) as client:
        client.write(client.request(1, "/interop.Echo/CollectFirst"), client.data(1, client.message(b"")))
        await client.until(DataFrame)
        assert (await client.until(HeadersFrame)).fields["grpc-status"] == "0"
        assert (await client.until(RstStreamFrame)).error_code == 0


# --- bounds


async def test_one_stream_too_many_is_refused_alone(serve: Any, raw: Any) -> None:
    """RFC 9113 5.1.2: a stream error; h2 would end the connection."""
    async with serve(max_concurrent_streams=2) as served, raw.connect(served.path) as client:
        for stream in (1, 3, 5, 7):
            client.write(client.request(stream, "/interop.Echo/Sleep"))
        for stream in (5, 7):
            refused = await client.until(RstStreamFrame)
            assert (refused.stream_id, refused.error_code) == (stream, 7)
        client.write(RstStreamFrame(1, error_code=8), client.data(7, b"late"))
        await eventually(lambda: served.server.stats.calls_under_way == 1)
        client.write(client.request(9, "/interop.Echo/Unary"), client.data(9, client.message(b""), end=True))
        assert (await client.until(HeadersFrame, stream=9)).fields[":status"] == "200"


async def test_calls_whose_handlers_still_clean_up_count(serve: Any, raw: Any) -> None:
    release = asyncio.Event()
    begun: list[Call] = []

    async def interceptor(call: Call, proceed: Any) -> None:
        begun.append(call)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.shield(release.wait())

    async with serve(interceptor=interceptor, max_concurrent_streams=2) as served, raw.connect(served.path) as client:
        client.write(*(client.request(stream, "/interop.Echo/Sleep") for stream in (1, 3)))
        await eventually(lambda: len(begun) == 2)
        client.write(*(RstStreamFrame(stream, error_code=8) for stream in (1, 3)))
        client.write(client.request(5, "/interop.Echo/Sleep"))
        assert (await client.until(RstStreamFrame)).stream_id == 5
        assert served.server.stats.calls_refused == 1
        release.set()


async def test_calls_of_all_connections_count(serve: Any, echo: Any) -> None:
    async with serve(max_calls=1) as served, Channel.unix(served.path) as one, Channel.unix(served.path) as two:
        async with echo.EchoStub(one).Endless.open() as call:
            await call.send_message(echo.Bytes(), end=True)
            await call.recv_message()
            with pytest.raises(CallTerminatedError) as caught:
                await echo.EchoStub(two).Unary(echo.Bytes())
            assert caught.value.status is Status.UNAVAILABLE
            assert caught.value.unprocessed
        await eventually(lambda: served.server.stats.calls_under_way == 0)
        await echo.EchoStub(two).Unary(echo.Bytes())


async def test_time_in_a_handler(serve: Any, echo: Any) -> None:
    async with serve(handler_timeout=0.1, stream_timeout=0.2) as served, Channel.unix(served.path) as channel:
        stub = echo.EchoStub(channel)
        assert await status_of(stub.Sleep(echo.Int64(value=600_000))) is Status.DEADLINE_EXCEEDED
        assert await status_of(stub.Endless(echo.Bytes())) is Status.DEADLINE_EXCEEDED
        assert served.service.counts["cancelled"] == 2


async def test_a_client_that_sends_no_message(serve: Any, echo: Any, raw: Any) -> None:
    async with serve(receive_timeout=0.1) as served, raw.connect(served.path) as client:
        client.write(client.request(1, "/interop.Echo/Unary"))
        client.write(client.request(3, "/interop.Echo/Chat"), client.data(3, b"\0\0\0\0\x10begun"))
        for stream in (1, 3):
            assert (await client.until(HeadersFrame, stream=stream)).fields["grpc-status"] == "4"
        await eventually(lambda: served.server.buffered == 0)


async def test_a_client_that_reads_no_message(serve: Any, raw: Any) -> None:
    async with serve(send_timeout=0.1) as served, raw.connect(served.path) as client:
        request = client.message(b"\x08\x80\x80\x40")  # a megabyte each, more than its window
        client.write(client.request(1, "/interop.Echo/Flood"), client.data(1, request, end=True))
        # A part of the message is out, so no status can follow: the stream is reset.
        assert (await client.until(RstStreamFrame)).error_code == 8
        await eventually(lambda: served.server.stats.calls_under_way == 0)


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
async def test_clients_that_are_not_http2(serve: Any, raw: Any, sent: bytes) -> None:
    async with serve(header_timeout=0.2) as served, raw.connect(served.path, preface=False) as client:
        client.write(sent)
        await client.closed()
        await eventually(lambda: served.server.connections == 0)


@pytest.mark.parametrize("slow", ["frame", "block", "settings"])
async def test_slow_frames_and_headers(serve: Any, raw: Any, slow: str) -> None:
    """A byte every now and then does not count as progress."""
    async with serve(header_timeout=0.3) as served, raw.connect(served.path, preface=slow != "settings") as client:
        block = client.block("/interop.Echo/Unary")
        whole = HeadersFrame(1, data=block[:5]).serialize() + HeadersFrame(1, data=block * 9).serialize()
        start = {"frame": 0, "block": len(HeadersFrame(1, data=block[:5]).serialize()), "settings": 0}[slow]
        data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if slow == "settings" else whole
        client.write(data[:start])
        with anyio.fail_after(20):
            for byte in data[start:] + bytes(10_000):
                client.write(bytes([byte]))
                await anyio.sleep(0.02)
                if client.reader.at_eof() or client.writer.is_closing():
                    break
        assert served.server.stats.connections_dropped == 1


async def test_slow_body_is_not_slow_headers(serve: Any, raw: Any) -> None:
    async with serve(header_timeout=0.2) as served, raw.connect(served.path) as client:
        client.write(client.request(1, "/interop.Echo/Unary"))
        for byte in client.message(b"\x0a\x14" + b"x" * 20):
            client.write(client.data(1, bytes([byte])))
            await anyio.sleep(0.03)
        client.write(client.data(1, b"", end=True))
        await client.until(HeadersFrame)
        assert served.server.connections == 1


async def test_idle_connections_are_asked_to_leave(serve: Any, echo: Any) -> None:
    async with serve(max_idle=0.2) as served, Channel.unix(served.path) as channel:
        await echo.EchoStub(channel).Unary(echo.Bytes())
        await eventually(lambda: served.server.connections == 0)
        await echo.EchoStub(channel).Unary(echo.Bytes())
        assert served.server.stats.connections_accepted == 2


async def test_the_graceful_end_on_the_wire(serve: Any, raw: Any) -> None:
    """GOAWAY that names no stream, PING; after its ACK the real last stream; calls under way end in peace."""
    async with serve(max_connection_age=0.2, age_grace=20.0) as served, raw.connect(served.path) as client:
        client.write(client.request(1, "/interop.Echo/Chat"))
        first = await client.until(GoAwayFrame)
        assert (first.last_stream_id, first.error_code) == (2**31 - 1, 0)
        ping = await client.until(PingFrame)
        client.write(client.request(3, "/interop.Echo/Chat"))  # sent before the GOAWAY was read: served
        client.write(PingFrame(0, opaque_data=ping.opaque_data, flags=["ACK"]))
        assert (await client.until(GoAwayFrame)).last_stream_id == 3
        client.write(client.request(5, "/interop.Echo/Chat"))
        refused = await client.until(RstStreamFrame)
        assert (refused.stream_id, refused.error_code) == (5, 7)
        for stream in (1, 3):
            client.write(client.data(stream, client.message(b""), end=True))
            assert (await client.until(HeadersFrame, stream=stream)).fields[":status"] == "200"
            assert (await client.until(HeadersFrame, stream=stream)).fields["grpc-status"] == "0"
        await client.closed()


async def test_age_ends_what_outlives_the_grace(serve: Any, echo: Any) -> None:
    async with serve(max_connection_age=0.5, age_grace=0.2) as served, Channel.unix(served.path) as channel:
        async with echo.EchoStub(channel).Endless.open() as call:
            await call.send_message(echo.Bytes(), end=True)
            await call.recv_message()
            assert await status_of(call.recv_message()) is Status.UNAVAILABLE


async def test_no_call_is_lost_to_age(serve: Any, echo: Any) -> None:
    async with serve(max_connection_age=1.0, age_grace=20.0) as served, Channel.unix(served.path) as channel:
        stub, calls = echo.EchoStub(channel), 0

        async def caller(end: float) -> None:
            nonlocal calls
            while anyio.current_time() < end:
                await stub.Sleep(echo.Int64(value=10), timeout=30)
                calls += 1

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(caller, anyio.current_time() + 4.5)
        assert served.server.stats.connections_accepted > 3
        assert calls > 50


async def test_a_client_that_answers_no_ping(serve: Any, raw: Any) -> None:
    async with serve(keepalive_time=0.2, keepalive_timeout=0.2) as served:
        async with raw.connect(served.path) as deaf, raw.connect(served.path) as live:
            client = live
            for _ in range(3):
                ping = await client.until(PingFrame)
                client.write(PingFrame(0, opaque_data=ping.opaque_data, flags=["ACK"]))
            await deaf.closed()
            assert (served.server.connections, served.server.stats.connections_dropped) == (1, 1)


async def test_pings_that_come_too_often(serve: Any, raw: Any) -> None:
    async with serve(max_ping_strikes=2) as served, raw.connect(served.path) as client:
        for number in range(4):
            client.write(PingFrame(0, opaque_data=bytes([number] * 8)))
        frames = await client.closed()
        goodbye = [frame for frame in frames if isinstance(frame, GoAwayFrame)][-1]
        assert (goodbye.error_code, goodbye.additional_data) == (11, b"too_many_pings")
        assert served.server.stats.protocol_errors == 1


async def test_pings_after_answers_are_no_strikes(serve: Any, raw: Any) -> None:
    """Go and Java measure the line with a PING after DATA."""
    async with serve(max_ping_strikes=1) as served, raw.connect(served.path) as client:
        for number in range(10):
            stream = 1 + 2 * number
            client.write(client.request(stream, "/interop.Echo/Unary"))
            client.write(client.data(stream, client.message(b""), end=True))
            await client.until(DataFrame, stream=stream)
            client.write(PingFrame(0, opaque_data=b"measures"))
            await client.until(PingFrame)


async def test_lines_a_peer_causes_are_paced(serve: Any, raw: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serve() as served:
        for _ in range(50):
            async with raw.connect(served.path, preface=False) as client:
                client.write(b"GET / HTTP/1.1\r\n\r\n")
                await client.closed()
    assert 1 <= sum("closing a connection" in record.getMessage() for record in caplog.records) < 30


async def test_a_header_block_is_bounded_before_it_ends(serve: Any, raw: Any) -> None:
    async with serve(header_timeout=100) as served, raw.connect(served.path) as client:
        client.write(HeadersFrame(1, data=bytes(16000)), *(ContinuationFrame(1, data=bytes(16000)) for _ in range(2)))
        await client.closed()


async def test_frames_of_ours_are_small_whatever_the_peer_allows(serve: Any, raw: Any) -> None:
    """One that allows 16 MiB would have so much written at once, for each of its streams."""
    settings = {"INITIAL_WINDOW_SIZE": 2**31 - 1, "MAX_FRAME_SIZE": 2**24 - 1}
    async with serve() as served, raw.connect(served.path, **settings) as client:
        client.write(WindowUpdateFrame(0, window_increment=2**30))
        client.write(client.request(1, "/interop.Echo/Flood"))
        client.write(client.data(1, client.message(b"\x08\x80\x80\x40"), end=True))
        assert max([len((await client.until(DataFrame)).data) for _ in range(150)]) == 16384


async def test_our_header_table_does_not_grow_to_what_the_peer_allows(serve: Any, raw: Any) -> None:
    """SETTINGS_HEADER_TABLE_SIZE is what the peer would remember, up to 4 GiB; our encoder must not match it."""
    async with serve(max_resets=10**6) as served, raw.connect(served.path, HEADER_TABLE_SIZE=2**32 - 1) as client:
        client.decoder.max_allowed_table_size = 2**32 - 1
        for stream in range(1, 400, 2):
            client.write(client.request(stream, f"/interop.Echo/{stream:0900}", end=True))
            assert (await client.until(HeadersFrame, stream=stream)).fields["grpc-status"] == "12"
        assert client.decoder.header_table_size <= 4096


# --- draining


async def test_drain_lets_calls_end_and_takes_no_more(serve: Any, echo: Any) -> None:
    async with serve() as served, Channel.unix(served.path) as channel:
        stub = echo.EchoStub(channel)
        async with anyio.create_task_group() as group:
            answers: list[Any] = []

            async def call() -> None:
                answers.append((await stub.Sleep(echo.Int64(value=300))).value)

            group.start_soon(call)
            await eventually(lambda: served.service.counts["started"] == 1)
            await served.server.drain(20)
        assert answers == [300]
        assert served.server.connections == 0
        assert await status_of(stub.Unary(echo.Bytes())) is Status.UNAVAILABLE


async def test_drain_tells_handlers_and_ends_the_rest_unavailable(serve: Any, echo: Any) -> None:
    told: list[str] = []

    async def interceptor(call: Call, proceed: Callable[[], Awaitable[None]]) -> None:
        if not call.method.endswith("Chat"):
            await proceed()
            return
        await call.draining.wait()
        told.append(call.method)
        raise GRPCError(Status.UNAVAILABLE, "come back later")

    async with serve(interceptor=interceptor) as served, Channel.unix(served.path) as channel:
        stub = echo.EchoStub(channel)
        outcomes: dict[str, str] = {}

        async def call(name: str, method: Any) -> None:
            try:
                await method
            except GRPCError as error:
                outcomes[name] = f"{error.status.name}: {error.message}"

        async with anyio.create_task_group() as group:
            group.start_soon(call, "chat", stub.Chat([echo.Bytes()]))
            group.start_soon(call, "endless", stub.Endless(echo.Bytes()))
            await eventually(lambda: served.server.stats.calls_under_way == 2)
            await served.server.drain(0.3)
        assert outcomes == {
            "chat": "UNAVAILABLE: come back later",
            "endless": "UNAVAILABLE: the server is shutting down",
        }
        assert told == ["/interop.Echo/Chat"]


async def test_close_with_connections_in_every_state(serve: Any, echo: Any, raw: Any) -> None:
    async with serve() as served:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(served.path)
            async with raw.connect(served.path) as idle, raw.connect(served.path) as busy:
                busy.write(busy.request(1, "/interop.Echo/Sleep"))
                await eventually(lambda: served.server.connections == 3)
                await eventually(lambda: served.server.stats.calls_under_way == 1)
                with anyio.fail_after(20):
                    await served.server.close()
                assert served.server.connections == 0
                await idle.closed()
        await served.server.close()


async def test_a_handler_that_is_slow_to_leave_is_awaited(serve: Any, echo: Any, raw: Any) -> None:
    left = asyncio.Event()

    async def interceptor(call: Call, proceed: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            left.set()

    async with serve(interceptor=interceptor) as served:
        async with raw.connect(served.path) as client:
            client.write(client.request(1, "/interop.Echo/Sleep"))
            await eventually(lambda: served.server.stats.calls_under_way == 1)
            await served.server.close()
    assert left.is_set()


def test_limits_are_values() -> None:
    assert ServerLimits() == ServerLimits()
    with pytest.raises(AttributeError):
        ServerLimits().max_calls = 3  # type: ignore[misc]
