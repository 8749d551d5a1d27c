"""Our channel calls a server on grpc-go: everything such a server does that grpclib does not survive."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from authsec_sdk.proto import any_pb2, status_pb2, wrappers_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status, error_details

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
GoServer = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
async def channel(go_server: GoServer) -> AsyncIterator[Channel]:
    async with go_server() as path, Channel.unix(path) as channel:
        yield channel


@pytest.fixture
def stub(channel: Channel, echo: Any) -> Any:
    return echo.EchoStub(channel)


def wanted() -> status_pb2.Status:
    detail = any_pb2.Any()
    detail.Pack(wrappers_pb2.StringValue(value="why"))
    return status_pb2.Status(code=7, message="nicht erlaubt: 100 % sicher\nno", details=[detail])


@pytest.mark.parametrize("size", [0, 1, 16384, 3_000_000])
async def test_unary(stub: Any, echo: Any, size: int) -> None:
    assert (await stub.Unary(echo.Bytes(value=b"x" * size), timeout=30)).value == b"x" * size


async def test_streams_of_each_kind(stub: Any, echo: Any) -> None:
    messages = [echo.Bytes(value=b"x" * size) for size in (0, 1, 70_000)]
    with anyio.fail_after(30):
        assert (await stub.Collect(messages)).value == 70_001
        assert [m.value for m in await stub.Repeat(echo.Int64(value=500))] == list(range(500))
        assert await stub.Chat(messages) == messages
        assert await stub.Repeat(echo.Int64(value=0)) == []


async def test_a_call_the_server_finishes_first_keeps_its_answer(stub: Any, echo: Any) -> None:
    """RFC 9113 8.1: trailers, then RST_STREAM(NO_ERROR), while our side is still open."""
    with anyio.fail_after(30):
        for _ in range(20):
            async with stub.ChatOnce.open() as call:
                await call.send_message(echo.Bytes(value=b"once"))
                assert (await call.recv_message()).value == b"once"
                assert await call.recv_message() is None
                await call.send_message(echo.Bytes(value=b"nobody listens"))
                await call.end()  # half-closing a finished stream


async def test_a_sender_learns_that_nobody_listens(stub: Any, echo: Any) -> None:
    """The server answers the first message and takes no more: a sender blocked by flow control must go on."""
    with anyio.fail_after(30):
        async with stub.CollectFirst.open() as call:
            for _ in range(100):
                await call.send_message(echo.Bytes(value=bytes(100_000)))
            assert (await call.recv_message()).value == 100_000


@pytest.mark.parametrize("ended", [True, False])
async def test_status_with_details(stub: Any, echo: Any, ended: bool) -> None:
    with anyio.fail_after(30), pytest.raises(GRPCError) as caught:
        async with stub.ChatFail.open() as call:
            await call.send_message(wanted(), end=ended)
            await call.recv_message()
    assert (caught.value.status, caught.value.message) == (Status.PERMISSION_DENIED, wanted().message)
    detail = error_details(caught.value, wrappers_pb2.StringValue)
    assert detail is not None
    assert detail.value == "why"
    assert error_details(caught.value, wrappers_pb2.Int64Value) is None


async def test_trailers_only_status(stub: Any) -> None:
    with pytest.raises(GRPCError) as caught:
        await stub.Fail(wanted(), timeout=30)
    assert caught.value.status is Status.PERMISSION_DENIED
    assert error_details(caught.value, wrappers_pb2.StringValue) is not None


async def test_unknown_methods_are_unimplemented(stub: Any, echo: Any) -> None:
    with pytest.raises(GRPCError) as caught:
        await stub.Crash(echo.Empty(), timeout=30)
    assert caught.value.status is Status.UNIMPLEMENTED


async def test_metadata_both_ways(stub: Any, echo: Any) -> None:
    sent = [("plain", "one"), ("plain", "two"), ("some-bin", b"\x00\xff\x10")]
    async with stub.Metadata.open(timeout=30, metadata=sent) as call:
        await call.send_message(echo.Empty(), end=True)
        seen = json.loads((await call.recv_message()).value)
        assert (call.initial_metadata["early"], call.initial_metadata["early-bin"]) == ("header", b"\x00\xff")
    assert seen["plain"] == ["one", "two"]
    assert seen["some-bin"] == ["00ff10"]
    assert (call.trailing_metadata["late"], call.trailing_metadata["late-bin"]) == ("trailer", b"\xfe\x01\x02")


async def counts(stub: Any, echo: Any) -> dict[str, int]:
    return json.loads((await stub.Counts(echo.Empty(), timeout=30)).value)


async def test_deadline_ends_the_call_on_both_sides(stub: Any, echo: Any) -> None:
    with pytest.raises(GRPCError) as caught:
        await stub.Sleep(echo.Int64(value=600_000), timeout=0.2)
    assert caught.value.status is Status.DEADLINE_EXCEEDED
    with anyio.fail_after(30):
        while (await counts(stub, echo))["cancelled"] != 1:
            await anyio.sleep(0.02)


async def test_leaving_a_server_stream_cancels_it(stub: Any, echo: Any) -> None:
    """grpclib waits for trailers that never come."""
    with anyio.fail_after(30):
        async with stub.Endless.open() as call:
            await call.send_message(echo.Bytes(value=b"x"), end=True)
            assert (await call.recv_message()).value == b"x"
        while (await counts(stub, echo))["cancelled"] != 1:
            await anyio.sleep(0.02)


async def test_cancelling_the_task_cancels_the_call(stub: Any, echo: Any) -> None:
    with anyio.move_on_after(0.3) as scope:
        await stub.Sleep(echo.Int64(value=600_000))
    assert scope.cancelled_caught
    with anyio.fail_after(30):
        while (await counts(stub, echo))["cancelled"] != 1:
            await anyio.sleep(0.02)
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_too_big_an_answer_ends_that_call_alone(go_server: GoServer, echo: Any) -> None:
    async with go_server() as path, Channel.unix(path, max_receive_bytes=1000) as channel:
        stub = echo.EchoStub(channel)
        with pytest.raises(GRPCError) as caught:
            await stub.Unary(echo.Bytes(value=bytes(1001)), timeout=30)
        assert caught.value.status is Status.RESOURCE_EXHAUSTED
        assert len((await stub.Unary(echo.Bytes(value=bytes(900)), timeout=30)).value) == 900


async def test_no_call_fails_when_connections_age(go_server: GoServer, echo: Any) -> None:
    """MaxConnectionAge 1 s: GOAWAY(2^31-1) and PING, then GOAWAY with the last stream; calls in flight live."""
    calls = 0
    async with go_server("-max-connection-age", "1s") as path, Channel.unix(path) as channel:
        stub = echo.EchoStub(channel)

        async def caller(end: float) -> None:
            nonlocal calls
            while anyio.current_time() < end:
                await stub.Sleep(echo.Int64(value=20), timeout=30)
                calls += 1

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(caller, anyio.current_time() + 4)
    assert calls > 100


async def test_more_calls_than_the_server_takes_at_once_wait(go_server: GoServer, echo: Any) -> None:
    async with go_server("-max-concurrent-streams", "5") as path, Channel.unix(path) as channel:
        stub = echo.EchoStub(channel)
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(lambda: stub.Sleep(echo.Int64(value=20), timeout=60))


async def test_a_server_that_goes_and_comes_back(go_server: GoServer, echo: Any) -> None:
    async with go_server() as path:
        async with Channel.unix(path, max_backoff=0.1) as channel:
            stub = echo.EchoStub(channel)
            await stub.Unary(echo.Bytes(), timeout=30)
            async with stub.Endless.open() as call:
                await call.send_message(echo.Bytes(), end=True)
                await call.recv_message()
                await go_server.stop(path)
                with pytest.raises(GRPCError) as caught:
                    await call.recv_message()
                assert caught.value.status is Status.UNAVAILABLE
            with pytest.raises(GRPCError) as caught:
                await stub.Unary(echo.Bytes(), timeout=30)
            assert caught.value.status is Status.UNAVAILABLE
            assert isinstance(caught.value.__cause__, OSError)
            async with go_server(path=path):
                await stub.Unary(echo.Bytes(), timeout=30)
