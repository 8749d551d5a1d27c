"""Websockets under uvicorn: they carry the peer of their connection, and routes refuse them before they open."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.asgi import Route, RouteAuthorizationMiddleware, peer_spiffe_id
from authsec_sdk.tls import mtls_client_context

STRANGER = "spiffe://example.org/stranger"


@pytest.fixture(params=[("h11", "asyncio"), ("httptools", "asyncio"), ("httptools", "uvloop")], ids="-".join)
def stack(request: pytest.FixtureRequest) -> dict[str, str]:
    http, loop = request.param
    return {"http": http, "loop": loop}


@pytest.fixture
def dial(world: Any) -> Callable[..., Any]:
    """Open a websocket as `frontend`, over mutual TLS."""

    def open_it(server: Any, path: str = "/", **options: Any) -> Any:
        context = mtls_client_context(world.frontend, authorize_id(world.payments_id))
        url = server.url.replace("https", "wss") + path
        return connect(url, ssl=context, open_timeout=20, close_timeout=20, proxy=None, **options)

    return open_it


class Echo:
    """Greets with the caller's SPIFFE ID, then sends back what it gets; knows how many scopes reached it."""

    def __init__(self) -> None:
        self.hits = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.hits += 1
        assert scope["type"] == "websocket"
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(peer_spiffe_id(scope))})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


def test_a_websocket_carries_the_peer_of_its_connection(
    world: Any, serve: Any, dial: Any, stack: dict[str, str]
) -> None:
    with serve(Echo(), **stack) as server, dial(server) as websocket:
        assert websocket.recv(timeout=20) == str(world.frontend_id)
        websocket.send("hello")
        assert websocket.recv(timeout=20) == "hello"


def test_a_header_cannot_name_a_caller(world: Any, serve: Any, dial: Any, stack: dict[str, str]) -> None:
    claimed = {"X-Forwarded-Client-Cert": f"URI={STRANGER}", "X-Forwarded-For": "10.0.0.1"}
    with serve(Echo(), **stack) as server, dial(server, additional_headers=claimed) as websocket:
        assert websocket.recv(timeout=20) == str(world.frontend_id)


def test_routes_refuse_before_the_websocket_opens(
    world: Any, serve: Any, dial: Any, stack: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    app = Echo()
    routes = [Route("/mine", authorize_id(world.frontend_id)), Route("/theirs", authorize_id(STRANGER))]
    with caplog.at_level(logging.WARNING), serve(RouteAuthorizationMiddleware(app, routes), **stack) as server:
        for path in ("/theirs", "/nowhere"):
            with pytest.raises(InvalidStatus) as info:
                dial(server, path)
            response = info.value.response
            assert response.status_code == 403
            assert response.headers["content-type"] == "application/problem+json"
            assert STRANGER.encode() not in (response.body or b"")
        assert app.hits == 0
        with dial(server, "/mine") as websocket:
            assert websocket.recv(timeout=20) == str(world.frontend_id)
    assert app.hits == 1
    assert STRANGER in caplog.text


def test_a_route_for_methods_does_not_open_websockets(world: Any, serve: Any, dial: Any, stack: dict[str, str]) -> None:
    app = Echo()
    routes = [Route("/", authorize_id(world.frontend_id), methods=frozenset({"GET"}))]
    with serve(RouteAuthorizationMiddleware(app, routes), **stack) as server, pytest.raises(InvalidStatus):
        dial(server)
    assert app.hits == 0


def test_a_caller_refused_in_the_handshake_opens_nothing(
    world: Any, serve: Any, dial: Any, stack: dict[str, str]
) -> None:
    app = Echo()
    heard: list[Any] = []
    with serve(app, on_rejected=heard.append, **stack) as server:
        world.frontend.publish(world.context(world.ca.svid("/stranger")))
        with pytest.raises((OSError, EOFError, WebSocketException)):  # in TLS 1.3 it learns of it when it reads
            dial(server)
    assert app.hits == 0
    assert [str(rejection.spiffe_id) for rejection in heard] == [STRANGER]
