"""A client on grpc-go calls our server: statuses, endings and bounds as such a client understands them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.rpc import Server, ServerLimits

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
GoClient = Callable[..., Awaitable[Any]]
MESSAGE = "nicht erlaubt: 100 % sicher\nno"


@pytest.fixture
async def socket(echo: Any, short_dir: Path) -> AsyncIterator[str]:
    async with Server([echo.Echo()]) as server:
        await server.listen_unix(short_dir / "s")
        yield f"unix://{short_dir / 's'}"


@pytest.mark.parametrize("size", [0, 1, 16384, 3_000_000])
async def test_unary(go_client: GoClient, socket: str, size: int) -> None:
    assert await go_client(socket, "unary", "-size", str(size)) == {"code": "OK", "message": ""}


async def test_streams_of_each_kind(go_client: GoClient, socket: str) -> None:
    assert await go_client(socket, "collect", "-size", "30000", "-count", "50") == {"total": 1_500_000}
    assert await go_client(socket, "repeat", "-count", "500") == {"messages": 500}
    assert await go_client(socket, "chat", "-size", "1000", "-count", "100") == {"messages": 100}


async def test_calls_that_our_server_finishes_first(go_client: GoClient, socket: str) -> None:
    assert await go_client(socket, "chat-once", "-size", "5") == {"size": 5}
    told = await go_client(socket, "collect-first", "-size", "100000", "-count", "1000")
    assert told == {"first": 100_000, "told": True}


@pytest.mark.parametrize("scenario", ["fail", "chat-fail"])
async def test_status_with_details(go_client: GoClient, socket: str, scenario: str) -> None:
    detail = "type.googleapis.com/google.protobuf.StringValue"
    wanted = {"code": "PermissionDenied", "message": MESSAGE, "details": [detail]}
    assert await go_client(socket, scenario) == wanted


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("/interop.Echo/Nothing", "unknown method Nothing for service interop.Echo"),
        ("/interop.Nobody/Unary", "unknown service interop.Nobody"),
        ("/malformed", "malformed method name: '/malformed'"),
    ],
)
async def test_what_nobody_serves(go_client: GoClient, socket: str, method: str, message: str) -> None:
    assert await go_client(socket, "call", "-method", method) == {"code": "Unimplemented", "message": message}


async def test_an_unexpected_exception_tells_the_peer_nothing(
    go_client: GoClient, socket: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await go_client(socket, "call", "-method", "/interop.Echo/Crash")
    assert answer == {"code": "Internal", "message": "internal error"}
    assert "swordfish" in caplog.text


async def test_a_handler_without_an_answer(go_client: GoClient, socket: str) -> None:
    answer = await go_client(socket, "call", "-method", "/interop.Echo/Silent")
    assert answer == {"code": "Internal", "message": "internal error"}


async def test_metadata_both_ways(go_client: GoClient, socket: str) -> None:
    answer = {key: json.loads(value) for key, value in (await go_client(socket, "metadata")).items()}
    assert answer["seen"]["plain"] == ["one", "two"]
    assert answer["seen"]["some-bin"] == ["00ff10"]
    assert (answer["header"]["early"], answer["header"]["early-bin"]) == (["header"], ["00ff"])
    assert (answer["trailer"]["late"], answer["trailer"]["late-bin"]) == (["trailer"], ["fe0102"])


async def test_too_big_a_message(go_client: GoClient, socket: str) -> None:
    answer = await go_client(socket, "unary", "-size", "5000000")
    assert answer["code"] == "ResourceExhausted"
    assert "received message larger than max" in answer["message"]


async def test_compressed_messages_are_refused(go_client: GoClient, socket: str) -> None:
    assert (await go_client(socket, "gzip", "-size", "5000"))["code"] == "Unimplemented"


async def test_deadline(go_client: GoClient, socket: str) -> None:
    assert (await go_client(socket, "deadline", "-timeout", "200ms"))["code"] == "DeadlineExceeded"


async def test_cancelling_reaches_the_handler(go_client: GoClient, socket: str) -> None:
    assert (await go_client(socket, "cancel", "-timeout", "200ms"))["code"] == "Canceled"


async def test_no_call_fails_when_connections_age(go_client: GoClient, echo: Any, short_dir: Path) -> None:
    limits = ServerLimits(max_connection_age=1.0, age_grace=10.0)
    async with Server([echo.Echo()], limits=limits) as server:
        await server.listen_unix(short_dir / "s")
        target = f"unix://{short_dir / 's'}"
        outcomes = await go_client(target, "load", "-concurrency", "8", "-duration", "4s")
        assert server.stats.connections_accepted >= 3
    assert list(outcomes) == ["OK"]


async def test_streams_end_unavailable_when_the_server_stops(go_client: GoClient, echo: Any, short_dir: Path) -> None:
    """Any other status and some client never comes back."""
    service = echo.Echo()
    async with Server([service]) as server:
        await server.listen_unix(short_dir / "s")
        async with anyio.create_task_group() as group:
            answers: list[Any] = []

            async def hold() -> None:
                answers.append(await go_client(f"unix://{short_dir / 's'}", "endless"))

            group.start_soon(hold)
            with anyio.fail_after(30):
                while service.counts["started"] != 1:
                    await anyio.sleep(0.02)
            await server.close()
    assert answers == [{"code": "Unavailable", "message": "the server is shutting down"}]


async def test_more_calls_than_we_take_at_once_wait(go_client: GoClient, echo: Any, short_dir: Path) -> None:
    async with Server([echo.Echo()], limits=ServerLimits(max_concurrent_streams=5)) as server:
        await server.listen_unix(short_dir / "s")
        target = f"unix://{short_dir / 's'}"
        outcomes = await go_client(target, "many-streams", "-count", "40", "-duration", "20ms")
    assert outcomes == {"OK": 40}
