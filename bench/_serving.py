"""One server of `bench.integrations` in a process of its own: `FRAMEWORK ours|stdlib FOLDER`; prints its port.

Both ways are the same framework and the same application. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from authsec_sdk.authz import authorize_id
from bench import _identities
from bench._http11 import Server
from bench._identities import CLIENT

BODY = b"x" * 100


class Way:
    """Which TLS: ours or the standard library's."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.ours = kind == "ours"
        self.source = _identities.source(folder, "server")
        self.authorizer = authorize_id(CLIENT)
        self.folder = folder

    def stdlib(self, *alpn: str) -> ssl.SSLContext:
        """Return the other's context."""
        return _identities.stdlib(self.folder, "server", alpn)


def listener() -> socket.socket:
    """Return a bound socket; made with IPPROTO_TCP, or asyncio leaves Nagle's algorithm on."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.bind(("127.0.0.1", 0))
    return made


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with a hundred bytes."""
    if scope["type"] == "lifespan":
        for reply in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{reply}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
    await send({"type": "http.response.body", "body": BODY})


@contextlib.asynccontextmanager
async def bare(way: Way) -> AsyncIterator[int]:
    """Serve HTTP over raw asyncio: what clients are measured against."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, ssl=way.stdlib())
    async with server:
        yield server.sockets[0].getsockname()[1]


class _Pong(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"+PONG\r\n" if b"PING" in data else b"+OK\r\n" * max(data.count(b"*"), 1))


@contextlib.asynccontextmanager
async def redis(way: Way) -> AsyncIterator[int]:
    """Answer `PING`, as a Redis server does."""
    server = await asyncio.get_running_loop().create_server(_Pong, "127.0.0.1", 0, ssl=way.stdlib())
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def _uvicorn(way: Way, http: str) -> AsyncIterator[int]:
    import uvicorn

    from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer

    options: dict[str, Any] = {"http": http, "log_level": "error", "access_log": False, "lifespan": "off"}
    with listener() as bound:
        server: uvicorn.Server
        if way.ours:
            server = MTLSServer(MTLSConfig(application, way.source, way.authorizer, **options))
        else:
            context = way.stdlib("http/1.1")
            options |= {"ssl_context_factory": lambda _config, _default: context, "proxy_headers": False}
            server = uvicorn.Server(uvicorn.Config(application, **options))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[bound]))
            while not server.started:
                await asyncio.sleep(0.01)
            yield bound.getsockname()[1]
            server.should_exit = True


def uvicorn_h11(way: Way) -> Any:
    """Serve with uvicorn on h11."""
    return _uvicorn(way, "h11")


def uvicorn_httptools(way: Way) -> Any:
    """Serve with uvicorn on httptools."""
    return _uvicorn(way, "httptools")


@contextlib.asynccontextmanager
async def hypercorn(way: Way) -> AsyncIterator[int]:
    """Serve with Hypercorn."""
    from hypercorn.asyncio import serve as serve_plain
    from hypercorn.config import Config

    from authsec_sdk.integrations.hypercorn import serve

    class Plain(Config):
        def create_ssl_context(self) -> ssl.SSLContext:
            return way.stdlib("h2", "http/1.1")

        @property
        def ssl_enabled(self) -> bool:
            return True

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        if way.ours:
            serving = serve(
                application, way.source, way.authorizer, bind=[f"127.0.0.1:{port}"], shutdown_trigger=stop.wait
            )
        else:
            config = Plain()
            config.bind = [f"127.0.0.1:{port}"]
            serving = serve_plain(application, config, shutdown_trigger=stop.wait)
        group.create_task(serving)
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.02)
        yield port
        stop.set()


@contextlib.asynccontextmanager
async def aiohttp(way: Way) -> AsyncIterator[int]:
    """Serve with aiohttp.web."""
    from aiohttp import web

    from authsec_sdk.integrations.aiohttp import mtls_site

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(body=BODY)

    app = web.Application()
    app.router.add_get("/{size}", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if way.ours:
        site = mtls_site(runner, way.source, way.authorizer, "127.0.0.1", 0)
    else:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=way.stdlib("http/1.1"))
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@contextlib.asynccontextmanager
async def websockets(way: Way) -> AsyncIterator[int]:
    """Echo with websockets."""
    from websockets.asyncio.server import ServerConnection, serve

    from authsec_sdk.integrations.websockets import mtls_serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    options: dict[str, Any] = {"compression": None}
    if way.ours:
        served = mtls_serve(echo, way.source, way.authorizer, "127.0.0.1", 0, **options)
    else:
        served = serve(echo, "127.0.0.1", 0, ssl=way.stdlib("http/1.1"), **options)
    async with served as server:
        yield next(iter(server.sockets)).getsockname()[1]


@contextlib.asynccontextmanager
async def grpclib(way: Way) -> AsyncIterator[int]:
    """Serve gRPC health with grpclib."""
    from grpclib.health.service import Health
    from grpclib.server import Server as GRPCServer

    from authsec_sdk.integrations.grpclib import MTLSServer

    with listener() as bound:
        if way.ours:
            server: Any = MTLSServer([Health()], way.source, way.authorizer)
            await server.start(sock=bound)
        else:
            server = GRPCServer([Health()])
            await server.start(sock=bound, ssl=way.stdlib("h2"))
        yield bound.getsockname()[1]
        server.close()
        await server.wait_closed()


async def main(framework: str, kind: str, folder: Path) -> None:
    """Serve until the standard input ends."""
    logging.disable(logging.CRITICAL)
    async with globals()[framework](Way(kind, folder)) as port:
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
