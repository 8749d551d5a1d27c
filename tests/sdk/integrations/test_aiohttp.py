"""The contract of every integration, for aiohttp: its client and its server, on asyncio and uvloop."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from integration_contract.https import https_server, started
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, NoIdentityError, PeerNotAuthorizedError
from authsec_sdk.integrations.aiohttp import (
    InsecureURLError,
    MTLSConnector,
    mtls_session,
    mtls_site,
    peer_spiffe_id,
)
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import PeerVerificationError, mtls_client_context

Row = Callable[[Pair], None]


async def echo(request: web.Request) -> web.StreamResponse:
    """Answer with the caller's SPIFFE ID, over a websocket if asked for one."""
    caller = str(peer_spiffe_id(request))
    if request.headers.get("Upgrade") == "websocket":
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.send_str(caller)
        await answer.close()
        return answer
    return web.Response(text=caller)


class AiohttpPair(Pair):
    """aiohttp calling aiohttp.web, each on a loop of its own."""

    def __init__(self, loop: str) -> None:
        self.loop = loop

    def serve(
        self, source: Any, authorizer: Any, on_rejected: Any = None, handler: Any = echo
    ) -> AbstractContextManager[Any]:
        return https_server(source, authorizer, on_rejected, handler=handler, loop=self.loop)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        async def session() -> aiohttp.ClientSession:
            return mtls_session(source, authorizer, on_rejected=on_rejected, connector_options={"force_close": True})

        with LoopThread(self.loop) as thread:
            client = thread.run(session)

            async def call() -> Exchange:
                async with client.get(f"https://127.0.0.1:{port}/") as response:
                    text = await response.text()
                    return Exchange(peer_spiffe_id(response), SpiffeID.parse(text))

            try:
                yield lambda: thread.run(call)
            finally:
                thread.run(client.close)


@pytest.fixture(params=["asyncio", "uvloop"])
def pair(request: pytest.FixtureRequest) -> AiohttpPair:
    return AiohttpPair(request.param)


def test_client_contract(client_row: Row, pair: AiohttpPair) -> None:
    client_row(pair)


def test_server_contract(server_row: Row, pair: AiohttpPair) -> None:
    server_row(pair)


def test_rotation_under_load(load_row: Row, pair: AiohttpPair) -> None:
    load_row(pair)


@contextmanager
def session_of(pair: AiohttpPair, world: Any, port: int, **options: Any) -> Iterator[Any]:
    """Give what runs `await ask(session, url)` in a loop."""

    def run(ask: Any, wanted: Any = None) -> Any:
        async def inside() -> Any:
            async with mtls_session(world.frontend, wanted or authorize_id(world.payments_id), **options) as session:
                return await ask(session, f"https://127.0.0.1:{port}/")

        with LoopThread(pair.loop) as thread:
            return thread.run(inside)

    yield run


def test_the_refusal_names_the_id_seen_and_the_one_wanted(world: Any, pair: AiohttpPair) -> None:
    async def ask(session: aiohttp.ClientSession, url: str) -> None:
        await session.get(url)

    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with session_of(pair, world, served.port) as run:
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as info:
                run(ask, authorize_id("spiffe://example.org/orders"))
    error = info.value.certificate_error
    assert isinstance(error, PeerVerificationError)
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert "spiffe://example.org/orders" in str(error)
    assert str(world.payments_id) in str(error)


def test_websockets_keep_the_policy_and_tell_the_peer(world: Any, pair: AiohttpPair) -> None:
    async def ask(session: aiohttp.ClientSession, url: str) -> tuple[SpiffeID, str]:
        async with session.ws_connect(url.replace("https", "wss")) as websocket:
            return peer_spiffe_id(websocket), await websocket.receive_str()

    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with session_of(pair, world, served.port) as run:
            assert run(ask) == (world.payments_id, str(world.frontend_id))
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                run(ask, authorize_id("spiffe://example.org/orders"))
            assert served.hits == 1


def test_connections_are_kept_and_their_peer_is_known_after_release(world: Any, pair: AiohttpPair) -> None:
    async def ask(session: aiohttp.ClientSession, url: str) -> list[SpiffeID]:
        peers = []
        for _ in range(3):
            async with session.get(url) as response:
                await response.read()
            peers.append(peer_spiffe_id(response))
        return peers

    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with session_of(pair, world, served.port) as run:
            assert run(ask) == [world.payments_id] * 3
    assert len(served.connections) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "ws://127.0.0.1:9/"])
def test_plaintext_is_refused_before_anything_is_sent(world: Any, pair: AiohttpPair, url: str) -> None:
    async def ask(session: aiohttp.ClientSession, _: str) -> None:
        await (session.ws_connect(url) if url.startswith("ws") else session.get(url))

    with session_of(pair, world, 9) as run, pytest.raises(InsecureURLError, match="mutual TLS only"):
        run(ask)


def test_redirect_to_plaintext_is_refused(world: Any, pair: AiohttpPair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        thief.settimeout(0.2)

        async def elsewhere(_: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{thief.getsockname()[1]}/stolen")

        async def ask(session: aiohttp.ClientSession, url: str) -> None:
            await session.get(url)

        with pair.serve(world.payments, authorize_id(world.frontend_id), handler=elsewhere) as served:
            with session_of(pair, world, served.port) as run, pytest.raises(InsecureURLError):
                run(ask)
        with pytest.raises(TimeoutError):
            thief.accept()


@pytest.mark.parametrize("option", [{"ssl": False}, {"proxy": "http://127.0.0.1:9"}, {"proxy": "https://127.0.0.1:9"}])
def test_a_request_cannot_leave_the_policy(world: Any, pair: AiohttpPair, option: dict[str, Any]) -> None:
    async def ask(session: aiohttp.ClientSession, url: str) -> None:
        await session.get(url, **option)

    with session_of(pair, world, 9) as run, pytest.raises(InsecureURLError, match="leave them out"):
        run(ask)


@pytest.mark.parametrize("option", ["connector", "proxy", "trust_env", "response_class", "request_class"])
def test_options_that_go_round_the_policy_are_refused(world: Any, option: str) -> None:
    with pytest.raises(CallerError, match=option):
        mtls_session(world.frontend, authorize_member_of("example.org"), **{option: None})


@pytest.mark.parametrize("option", ["ssl", "verify_ssl", "ssl_context", "fingerprint"])
def test_the_connector_takes_no_other_tls(world: Any, option: str) -> None:
    context = mtls_client_context(world.frontend, authorize_member_of("example.org"))
    with pytest.raises(CallerError, match=option):
        MTLSConnector(context, **{option: None})


def test_the_site_takes_no_other_tls(world: Any) -> None:
    runner = web.AppRunner(web.Application())
    with pytest.raises(CallerError, match="ssl_context"):
        mtls_site(runner, world.payments, authorize_member_of("example.org"), ssl_context=None)


def test_proxy_variables_are_not_read(world: Any, pair: AiohttpPair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with pair.connect(served.port, world.frontend, authorize_id(world.payments_id)) as call:
            assert call().peer == world.payments_id


def test_headers_cannot_name_a_caller(world: Any, pair: AiohttpPair) -> None:
    async def ask(session: aiohttp.ClientSession, url: str) -> str:
        claim = {"x-forwarded-client-cert": "URI=spiffe://example.org/admin"}
        async with session.get(url, headers=claim) as response:
            return await response.text()

    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with session_of(pair, world, served.port) as run:
            assert run(ask) == str(world.frontend_id)


def test_what_was_not_mutual_tls_has_no_peer(pair: AiohttpPair) -> None:
    async def plain() -> None:
        async def handler(request: web.Request) -> web.Response:
            with pytest.raises(NoIdentityError):
                peer_spiffe_id(request)
            return web.Response()

        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            port = await started(web.TCPSite(runner, "127.0.0.1", 0))
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
                assert response.status == 200
                with pytest.raises(CallerError, match="mtls_session"):
                    peer_spiffe_id(response)
        finally:
            await runner.cleanup()

    with LoopThread(pair.loop) as thread:
        thread.run(plain)
