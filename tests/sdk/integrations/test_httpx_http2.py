"""httpx over HTTP/2: the same policy, seen from both ends of a connection that speaks h2."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest

from authsec_sdk.authz import Authorizer, authorize_id
from authsec_sdk.errors import PeerNotAuthorizedError
from authsec_sdk.integrations.httpx import mtls_async_client, mtls_client, peer_spiffe_id
from authsec_sdk.rpc import Server
from authsec_sdk.tls import PeerVerificationError, Rejection, mtls_server_context

Ask = Callable[[Any, Authorizer, str], tuple[str, str]]


@pytest.fixture
def serve_http2(world: Any) -> Callable[..., Any]:
    """Run a server that speaks nothing but h2, as `payments`; whoever is no gRPC client gets an error of HTTP."""

    @contextmanager
    def start(**options: Any) -> Iterator[str]:
        context = mtls_server_context(world.payments, authorize_id(world.frontend_id), alpn=("h2",), **options)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        def run(work: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(20)

        async def listen() -> tuple[Server, int]:
            server = Server([])
            return server, (await server.listen_tcp("127.0.0.1", 0, ssl=context))[1]

        try:
            server, port = run(listen())
            yield f"https://127.0.0.1:{port}/"
            run(server.close())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(20)
            loop.close()

    return start


def ask_sync(source: Any, authorizer: Authorizer, url: str) -> tuple[str, str]:
    with mtls_client(source, authorizer, http2=True) as client:
        response = client.get(url)
        return response.http_version, str(peer_spiffe_id(response))


def ask_on(backend: str) -> Ask:
    def ask(source: Any, authorizer: Authorizer, url: str) -> tuple[str, str]:
        async def asked() -> tuple[str, str]:
            async with mtls_async_client(source, authorizer, http2=True) as client:
                response = await client.get(url)
                return response.http_version, str(peer_spiffe_id(response))

        return anyio.run(asked, backend=backend)

    return ask


@pytest.fixture(params=["sync", "asyncio", "trio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return ask_sync if request.param == "sync" else ask_on(request.param)


def test_the_server_is_known_by_its_id(world: Any, serve_http2: Any, ask: Ask) -> None:
    with serve_http2() as url:
        assert ask(world.frontend, authorize_id(world.payments_id), url) == ("HTTP/2", str(world.payments_id))


def test_the_client_refuses_a_server(world: Any, serve_http2: Any, ask: Ask) -> None:
    with serve_http2() as url, pytest.raises(httpx.ConnectError) as info:
        ask(world.frontend, authorize_id("spiffe://example.org/orders"), url)
    error: BaseException | None = info.value
    while not isinstance(error, PeerVerificationError):
        assert error is not None
        error = error.__cause__ or error.__context__
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert str(world.payments_id) in str(error)


def test_the_server_refuses_a_client(world: Any, serve_http2: Any, ask: Ask) -> None:
    heard: list[Rejection] = []
    world.frontend.publish(world.context(world.ca.svid("/stranger")))
    with serve_http2(on_rejected=heard.append) as url, pytest.raises(httpx.TransportError):
        ask(world.frontend, authorize_id(world.payments_id), url)
    assert [str(rejection.spiffe_id) for rejection in heard] == ["spiffe://example.org/stranger"]
