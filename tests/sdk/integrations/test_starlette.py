"""Starlette through uvicorn: routes, mounted applications, lifespan and websockets behind the ASGI middlewares."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from integration_contract.pair import Pair
from integration_contract.uvicorn import UvicornPair
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.routing import Route as Path
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.integrations.asgi import Route, RouteAuthorizationMiddleware, peer_spiffe_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import mtls_client_context

Row = Callable[[Pair], None]
FRONTEND, PAYMENTS = SpiffeID.parse("spiffe://example.org/frontend"), SpiffeID.parse("spiffe://example.org/payments")


async def who(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(peer_spiffe_id(request.scope)))


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(str(peer_spiffe_id(websocket.scope)))
    await websocket.close()


def application(life: list[str]) -> Starlette:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        life.append("up")
        yield
        life.append("down")

    members, admin = authorize_member_of("example.org"), authorize_id("spiffe://example.org/admin")
    routes = [Route("/**", members), Route("/sub/admin/**", admin), Route("/admin-socket", admin)]
    return Starlette(
        routes=[
            Path("/", who),
            Mount("/sub", routes=[Path("/who", who), Path("/admin/who", who)]),
            WebSocketRoute("/socket", greet),
            WebSocketRoute("/admin-socket", greet),
        ],
        middleware=[Middleware(RouteAuthorizationMiddleware, routes=routes)],
        lifespan=lifespan,
    )


def test_server_contract(server_row: Row) -> None:
    life: list[str] = []
    server_row(UvicornPair(application(life), lifespan="on"))
    assert life[::2] == ["up"] * (len(life) // 2)
    assert life[1::2] == ["down"] * (len(life) // 2)


def test_rotation_under_load(load_row: Row) -> None:
    load_row(UvicornPair(application([]), lifespan="on"))


def test_routes_and_mounts(world: Any, serve: Any) -> None:
    with serve(application([])) as server:
        with mtls_client(world.frontend, authorize_id(PAYMENTS), base_url=server.url) as client:
            assert client.get("/").text == client.get("/sub/who").text == str(FRONTEND)
            refused = client.get("/sub/admin/who")
            assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
            for path in ("/sub//admin/who", "/sub/./admin/who", "/sub/%2e/admin/who", "/sub/%61dmin/who"):
                assert client.get(path).status_code == 403, path


def test_websockets(world: Any, serve: Any) -> None:
    context = mtls_client_context(world.frontend, authorize_id(PAYMENTS))
    with serve(application([])) as server:
        url = server.url.replace("https", "wss")
        with connect(f"{url}/socket", ssl=context, proxy=None) as websocket:
            assert websocket.recv(timeout=20) == str(FRONTEND)
        with pytest.raises(InvalidStatus) as refusal:
            connect(f"{url}/admin-socket", ssl=context, proxy=None)
    assert refusal.value.response.status_code == 403
