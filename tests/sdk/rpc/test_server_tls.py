"""TLS under our server: one port for callers with and without a certificate; handshakes that fail, stall or flood."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.rpc import Call, Channel, GRPCError, Server, ServerLimits, Status

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def tls_server(echo: Any, tls: Any, **limits: Any) -> AsyncIterator[tuple[Server, str, int, list[Call]]]:
    calls: list[Call] = []

    async def interceptor(call: Call, proceed: Any) -> None:
        calls.append(call)
        await proceed()

    async with Server([echo.Echo()], limits=ServerLimits(**limits), interceptor=interceptor) as server:
        host, port = await server.listen_tcp("127.0.0.1", 0, ssl=tls.server_context())
        yield server, host, port, calls


async def eventually(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


async def test_callers_with_and_without_a_certificate_on_one_port(echo: Any, tls: Any) -> None:
    async with tls_server(echo, tls) as (_, host, port, calls):
        for pair in (None, tls.client):
            async with Channel.tcp(host, port, ssl=tls.client_context(pair)) as channel:
                await echo.EchoStub(channel).Unary(echo.Bytes(value=bytes(3_000_000)), timeout=30)
        anonymous, known = (call.peer for call in calls)
        assert anonymous.ssl_object is not None
        assert anonymous.ssl_object.getpeercert() is None
        assert known.ssl_object is not None
        assert ("URI", "spiffe://x/client") in known.ssl_object.getpeercert()["subjectAltName"]
        assert known.address.startswith("127.0.0.1:")


async def test_a_certificate_from_elsewhere_fails_the_handshake(
    echo: Any, tls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with tls_server(echo, tls) as (server, host, port, calls):
        async with Channel.tcp(host, port, ssl=tls.client_context(tls.stranger)) as channel:
            with pytest.raises(GRPCError) as caught:
                await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=30)
        assert caught.value.status is Status.UNAVAILABLE
        await eventually(lambda: server.stats.handshakes_failed == 1)
        assert not calls
    assert "TLS handshake failed" in caplog.text


async def test_a_server_from_elsewhere_is_refused_with_its_reason(echo: Any, tls: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(tls.stranger[0])
    async with tls_server(echo, tls) as (_, host, port, calls):
        async with Channel.tcp(host, port, ssl=context) as channel:
            with pytest.raises(GRPCError) as caught:
                await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=30)
        assert caught.value.status is Status.UNAVAILABLE
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert not calls


async def test_clear_text_on_a_tls_port(echo: Any, tls: Any) -> None:
    async with tls_server(echo, tls) as (server, host, port, _):
        async with Channel.tcp(host, port) as channel:
            with pytest.raises(GRPCError) as caught:
                await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=30)
        assert caught.value.status is Status.UNAVAILABLE
        await eventually(lambda: server.connections == 0)


async def test_a_handshake_that_stalls(echo: Any, tls: Any) -> None:
    async with tls_server(echo, tls, handshake_timeout=0.2) as (server, host, port, _):
        for data in (b"", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(data)
            with anyio.fail_after(20):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1000)
            writer.transport.abort()
        await eventually(lambda: server.connections == 0)
        assert server.stats.handshakes_failed == 2


async def test_many_handshakes_under_way_harm_nobody(echo: Any, tls: Any) -> None:
    async with tls_server(echo, tls, max_handshakes=5, handshake_timeout=60) as (server, host, port, _):
        sockets = [socket.create_connection((host, port)) for _ in range(100)]
        await eventually(lambda: server.stats.handshakes_failed >= 95)
        async with Channel.tcp(host, port, ssl=tls.client_context()) as channel:
            await echo.EchoStub(channel).Unary(echo.Bytes(), timeout=30)
        assert server.connections <= 6 + 1
        for one in sockets:
            one.close()
        with anyio.fail_after(20):
            await server.close()
        assert server.connections == 0


async def test_closing_during_a_handshake(echo: Any, tls: Any) -> None:
    async with tls_server(echo, tls) as (server, host, port, _):
        with socket.create_connection((host, port)):
            await eventually(lambda: server.connections == 1)
            with anyio.fail_after(20):
                await server.close()
            assert server.connections == 0


async def test_age_and_drain_over_tls(echo: Any, tls: Any) -> None:
    # A second, as grpc-go's shortest: a connection older than its age before it is ready is one to no server of use.
    async with tls_server(echo, tls, max_connection_age=1.0, age_grace=10) as (server, host, port, _):
        async with Channel.tcp(host, port, ssl=tls.client_context(tls.client)) as channel:
            stub = echo.EchoStub(channel)
            end = anyio.current_time() + 3.5
            while anyio.current_time() < end:
                await stub.Sleep(echo.Int64(value=20), timeout=30)
            assert server.stats.connections_accepted >= 3
            with anyio.fail_after(20):
                await server.drain(5)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_on_uvloop(echo: Any, tls: Any, short_dir: Path) -> None:
    """Its transports, sockets and TLS are of a family of their own."""
    async with tls_server(echo, tls, handshake_timeout=0.3) as (server, host, port, calls):
        await server.listen_unix(short_dir / "s")
        over_tls = Channel.tcp(host, port, ssl=tls.client_context(tls.client))
        async with over_tls, Channel.unix(str(short_dir / "s")) as plain:
            for channel in (over_tls, plain):
                stub = echo.EchoStub(channel)
                assert len((await stub.Unary(echo.Bytes(value=bytes(3_000_000)), timeout=30)).value) == 3_000_000
                async with stub.Endless.open() as call:
                    await call.send_message(echo.Bytes(), end=True)
                    await call.recv_message()
            assert calls[0].peer.ssl_object is not None
            assert calls[0].peer.ssl_object.getpeercert()
            reader, writer = await asyncio.open_connection(host, port)
            with anyio.fail_after(20):
                assert await reader.read() == b""
            writer.close()
            await server.close()
        assert server.connections == 0
