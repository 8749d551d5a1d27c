"""Where and how long uvicorn listens: TCP, Unix sockets and descriptors; silent callers are let go of."""

import asyncio
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.asgi import peer_spiffe_id
from authsec_sdk.integrations.httpx import mtls_async_client
from authsec_sdk.integrations.uvicorn import HANDSHAKE_TIMEOUT, MTLSConfig, MTLSServer

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:  # short, for the socket's path
        yield Path(path)


class Application:
    """Answers with the caller's ID, and knows which parts of its life it has seen."""

    def __init__(self) -> None:
        self.life: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                self.life.append(message["type"])
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = str(peer_spiffe_id(scope)).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(
    world: Any, app: Any = None, *, sockets: list[socket.socket] | None = None, **options: Any
) -> AsyncIterator[MTLSServer]:
    options = {"log_config": None, "lifespan": "on", "port": 0, **options}
    server = MTLSServer(MTLSConfig(app or Application(), world.payments, authorize_id(world.frontend_id), **options))
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        task = group.create_task(server.serve(sockets=sockets))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        try:
            yield server
        finally:
            server.should_exit = True


def port_of(server: MTLSServer) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


async def caller_seen(world: Any, url: str, **options: Any) -> str:
    async with mtls_async_client(world.frontend, authorize_id(world.payments_id), **options) as client:
        return (await client.get(url)).text


async def test_tcp(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        async with serving(world, app) as server:
            assert await caller_seen(world, f"https://127.0.0.1:{port_of(server)}/") == str(world.frontend_id)
            assert f"https://127.0.0.1:{port_of(server)}" in caplog.text
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_unix_socket(world: Any, folder: Path) -> None:
    path = folder / "https.sock"
    async with serving(world, uds=str(path)):
        assert await caller_seen(world, "https://payments/", uds=str(path)) == str(world.frontend_id)
        assert path.stat().st_mode & 0o777 == 0o666
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as earlier:  # what a server before this one left, with modes an operator chose
        earlier.bind(str(path))
    path.chmod(0o660)
    async with serving(world, uds=str(path)):
        assert await caller_seen(world, "https://payments/", uds=str(path)) == str(world.frontend_id)
        assert path.stat().st_mode & 0o777 == 0o660


async def test_sockets_and_descriptors(world: Any) -> None:
    for how in ("sockets", "fd"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            options: dict[str, Any] = {"sockets": [listener]} if how == "sockets" else {"fd": listener.fileno()}
            async with serving(world, **options):
                url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
                assert await caller_seen(world, url) == str(world.frontend_id)


async def test_an_address_that_is_taken_ends_the_application_and_raises(world: Any) -> None:
    app = Application()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ExceptionGroup) as info:
        async with serving(world, app, port=taken.getsockname()[1]):
            pass
    assert info.group_contains(OSError)
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]


def beginning_of_a_handshake() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="payments")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("said", ["nothing", "half a message", "one message"])
async def test_who_connects_and_stays_silent_is_let_go_of(world: Any, said: str) -> None:
    hello = beginning_of_a_handshake()
    sent = {"nothing": b"", "half a message": hello[: len(hello) // 2], "one message": hello}[said]
    async with serving(world, handshake_timeout=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(sent)
        try:
            async with asyncio.timeout(20):  # without a limit of ours it would be 60 s
                await reader.read()
        except ConnectionError:
            pass  # hung up on with bytes unread
        finally:
            writer.close()
        assert await caller_seen(world, f"https://127.0.0.1:{port_of(server)}/") == str(world.frontend_id)


def test_a_handshake_has_ten_seconds_unless_told_otherwise(world: Any) -> None:
    config = MTLSConfig(Application(), world.payments, authorize_id(world.frontend_id))
    assert config.handshake_timeout == HANDSHAKE_TIMEOUT <= 10
    for wrong in (0, -1, float("nan")):
        with pytest.raises(CallerError, match="handshake_timeout"):
            MTLSConfig(Application(), world.payments, authorize_id(world.frontend_id), handshake_timeout=wrong)


def test_the_descriptor_given_stays_the_givers(world: Any) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with serving(world, fd=listener.fileno()):
                pass
            os.fstat(listener.fileno())

    asyncio.run(run())
