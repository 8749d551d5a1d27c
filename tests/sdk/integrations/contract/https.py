"""What HTTP clients are tried against: a server that answers with its caller's SPIFFE ID."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from integration_contract.loops import LoopThread

from authsec_sdk.integrations.aiohttp import mtls_site, peer_spiffe_id

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def echo(request: web.Request) -> web.StreamResponse:
    return web.Response(text=str(peer_spiffe_id(request)))


async def started(site: web.BaseSite) -> int:
    """Start a site and return its port."""
    await site.start()
    server: Any = site._server
    port: int = server.sockets[0].getsockname()[1]
    return port


@contextmanager
def https_server(
    source: Any, authorizer: Any, on_rejected: Any = None, *, handler: Handler = echo, loop: str = "asyncio"
) -> Iterator[Any]:
    """Serve a handler on all paths; `port`, `hits` and `connections` tell of it."""
    served = SimpleNamespace(port=0, hits=0, connections=set())
    transports = set()

    async def counted(request: web.Request) -> web.StreamResponse:
        served.hits += 1
        served.connections.add(request.get_extra_info("peername"))
        transports.add(request.transport)
        return await handler(request)

    async def set_up() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", counted)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        served.port = await started(mtls_site(runner, source, authorizer, "127.0.0.1", 0, on_rejected=on_rejected))
        return runner

    async def tear_down() -> None:
        await runner.cleanup()
        for transport in transports:
            if transport is not None:
                transport.abort()  # else it waits for the goodbye of a client whose pool keeps the connection

    with LoopThread(loop) as thread:
        runner = thread.run(set_up)
        try:
            yield served
        finally:
            thread.run(tear_down)
