"""Trusted fronts under aiohttp.web: whom they speak for, and what is not believed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from integration_contract.https import started
from integration_contract.loops import LoopThread
from websockets.sync.client import connect

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, NoIdentityError, SpiffeError
from authsec_sdk.integrations.aiohttp import forwarded_peer, mtls_site, peer_spiffe_id, trusted_front_middleware
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.trusted_front import TrustedFronts
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import mtls_client_context

FRONT, PAYMENTS = SpiffeID.parse("spiffe://example.org/front"), SpiffeID.parse("spiffe://example.org/payments")
ADMIN = SpiffeID.parse("spiffe://example.org/admin")
SAID = f"By={PAYMENTS};Hash={'ab' * 32};URI={ADMIN}"
REAL, FORGED = ("X-Forwarded-Client-Cert", SAID), ("X_Forwarded_Client_Cert", SAID)
MEMBERS = authorize_member_of("example.org")
KEPT = web.RequestKey("KEPT", str)


async def tells(request: web.Request) -> web.StreamResponse:
    try:
        client = str(forwarded_peer(request).spiffe_id)
    except NoIdentityError:
        client = None
    seen = [name for name in request.headers if "forwarded" in name.lower()]
    seen += [name.decode() for name, _ in request.raw_headers if b"forwarded" in name.lower()]
    told = {"peer": str(peer_spiffe_id(request)), "client": client, "seen": seen, "body": await request.text()}
    return web.json_response({**told, "name": request.match_info["name"], "kept": request.get(KEPT)})


async def greet(request: web.Request) -> web.StreamResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    await websocket.send_str(str(forwarded_peer(request).spiffe_id))
    await websocket.close()
    return websocket


@web.middleware
async def keeps(request: web.Request, handler: Any) -> web.StreamResponse:
    request[KEPT] = "yes"
    response: web.StreamResponse = await handler(request)
    return response


@contextmanager
def running(world: Any, *middlewares: Any) -> Iterator[str]:
    async def set_up() -> tuple[web.AppRunner, int]:
        app = web.Application(middlewares=middlewares)
        app.router.add_route("*", "/say/{name}", tells)
        app.router.add_get("/socket", greet)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        return runner, await started(mtls_site(runner, world.payments, MEMBERS, "127.0.0.1", 0))

    with LoopThread("asyncio") as thread:
        runner, port = thread.run(set_up)
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            thread.run(runner.cleanup)


@contextmanager
def client_of(world: Any, url: str, path: str) -> Iterator[httpx.Client]:
    world.frontend.publish(world.context(world.ca.svid(path)))
    with mtls_client(world.frontend, authorize_id(PAYMENTS), base_url=url, timeout=30) as client:
        yield client


def test_fronts_and_others(world: Any) -> None:
    heard: list[tuple[SpiffeID | None, str, SpiffeError]] = []
    middleware = trusted_front_middleware(
        TrustedFronts(PAYMENTS, [FRONT]), on_refused=lambda *refusal: heard.append(refusal)
    )
    told = {"peer": str(FRONT), "client": str(ADMIN), "seen": [], "body": "text", "name": "it", "kept": "yes"}
    with running(world, keeps, middleware) as url:
        with client_of(world, url, "/front") as client:
            assert client.post("/say/it", headers=[REAL], content="text").json() == told
            assert client.post("/say/it", content="text").json() == {**told, "client": None}
            for headers in ([FORGED], [FORGED, REAL], [REAL, FORGED], [REAL, REAL]):
                refused = client.post("/say/it", headers=headers, content="text")
                assert (refused.status_code, refused.json()["title"]) == (403, "Forbidden")
                assert refused.headers["content-type"] == "application/problem+json"
        with client_of(world, url, "/frontend") as client:
            for headers in ([REAL], [FORGED], [REAL, REAL]):
                answer = client.post("/say/it", headers=headers, content="text")
                assert answer.json() == {**told, "peer": "spiffe://example.org/frontend", "client": None}
    assert {(str(peer), path) for peer, path, _ in heard} == {(str(FRONT), "/say/it")}


def test_a_websocket_knows_the_client_of_its_front(world: Any) -> None:
    world.frontend.publish(world.context(world.ca.svid("/front")))
    context = mtls_client_context(world.frontend, authorize_id(PAYMENTS))
    with running(world, trusted_front_middleware(TrustedFronts(PAYMENTS, [FRONT]))) as url:
        target = url.replace("https", "wss") + "/socket"
        with connect(target, ssl=context, proxy=None, additional_headers=[REAL]) as websocket:
            assert websocket.recv(timeout=20) == str(ADMIN)


def test_without_the_middleware_nothing_is_read(world: Any) -> None:
    from aiohttp.test_utils import make_mocked_request

    with pytest.raises(CallerError, match="trusted_front_middleware"):
        forwarded_peer(make_mocked_request("GET", "/"))
