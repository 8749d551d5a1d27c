"""The contract of every integration, for websockets: clients and servers on asyncio, uvloop, trio, in threads."""

import functools
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio
import websockets.asyncio.server
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair
from websockets.exceptions import InvalidURI, SecurityError
from websockets.http11 import Response

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, NoIdentityError, PeerNotAuthorizedError
from authsec_sdk.integrations.websockets import (
    InsecureURIError,
    MTLSClient,
    mtls_serve,
    mtls_serve_sync,
    mtls_serve_trio,
    peer_spiffe_id,
)
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import PeerVerificationError

Row = Callable[[Pair], None]


class AsyncPair(Pair):
    """websockets on asyncio or uvloop."""

    def __init__(self, loop: str) -> None:
        self.loop = loop

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None, **options: Any) -> Iterator[Any]:
        served = SimpleNamespace(hits=0)

        async def handler(connection: Any) -> None:
            served.hits += 1
            await connection.send(str(peer_spiffe_id(connection)))

        async def start() -> Any:
            return await mtls_serve(handler, source, authorizer, "127.0.0.1", 0, on_rejected=on_rejected, **options)

        async def stop(server: Any) -> None:
            server.close()
            await server.wait_closed()

        with LoopThread(self.loop) as thread:
            server = thread.run(start)
            served.port = server.sockets[0].getsockname()[1]
            try:
                yield served
            finally:
                thread.run(stop, server)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        client = MTLSClient(source, authorizer, on_rejected=on_rejected)

        async def call() -> Exchange:
            async with client.connect(f"wss://127.0.0.1:{port}") as connection:
                return Exchange(peer_spiffe_id(connection), SpiffeID.parse(await connection.recv()))

        with LoopThread(self.loop) as thread:
            yield lambda: thread.run(call)


class ThreadPair(Pair):
    """websockets without an event loop."""

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Any]:
        served = SimpleNamespace(hits=0)

        def handler(connection: Any) -> None:
            served.hits += 1
            connection.send(str(peer_spiffe_id(connection)))

        with mtls_serve_sync(handler, source, authorizer, "127.0.0.1", 0, on_rejected=on_rejected) as server:
            served.port = server.socket.getsockname()[1]
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield served
            finally:
                server.shutdown()
                thread.join(10)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        client = MTLSClient(source, authorizer, on_rejected=on_rejected)

        def call() -> Exchange:
            with client.connect_sync(f"wss://127.0.0.1:{port}") as connection:
                return Exchange(peer_spiffe_id(connection), SpiffeID.parse(connection.recv()))

        yield call


class TrioPair(Pair):
    """websockets on trio."""

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Any]:
        served = SimpleNamespace(hits=0)

        async def handler(connection: Any) -> None:
            served.hits += 1
            await connection.send(str(peer_spiffe_id(connection)))

        async def run(task_status: Any) -> None:
            async with trio.open_nursery() as nursery:
                start = functools.partial(
                    mtls_serve_trio, handler, source, authorizer, "127.0.0.1", 0, on_rejected=on_rejected
                )
                server = await nursery.start(start)
                task_status.started((nursery.cancel_scope, server.listeners[0].socket.getsockname()[1]))

        with LoopThread("trio") as thread:
            future, (scope, served.port) = thread.portal.start_task(run_with_status(run))
            try:
                yield served
            finally:
                thread.portal.call(scope.cancel)
                future.result(10)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        client = MTLSClient(source, authorizer, on_rejected=on_rejected)

        async def call() -> Exchange:
            async with client.connect_trio(f"wss://127.0.0.1:{port}") as connection:
                return Exchange(peer_spiffe_id(connection), SpiffeID.parse(await connection.recv()))

        with LoopThread("trio") as thread:
            yield lambda: thread.run(call)


def run_with_status(function: Any) -> Any:
    async def run(*, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        await function(task_status)

    return run


PAIRS = {
    "asyncio": lambda: AsyncPair("asyncio"),
    "uvloop": lambda: AsyncPair("uvloop"),
    "threads": ThreadPair,
    "trio": TrioPair,
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Pair:
    caplog.set_level(logging.CRITICAL, "websockets")
    return PAIRS[request.param]()


def test_client_contract(client_row: Row, pair: Pair) -> None:
    client_row(pair)


def test_server_contract(server_row: Row, pair: Pair) -> None:
    server_row(pair)


def test_rotation_under_load(load_row: Row, pair: Pair) -> None:
    load_row(pair)


def test_the_refusal_names_the_id_seen_and_the_one_wanted(world: Any, pair: Pair) -> None:
    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with pair.connect(served.port, world.frontend, authorize_id("spiffe://example.org/orders")) as call:
            with pytest.raises((PeerVerificationError, trio.BrokenResourceError)) as info:
                call()
    error = info.value if isinstance(info.value, PeerVerificationError) else info.value.__cause__
    assert isinstance(error, PeerVerificationError)
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert "spiffe://example.org/orders" in str(error)
    assert str(world.payments_id) in str(error)


@pytest.fixture
def client(world: Any) -> MTLSClient:
    return MTLSClient(world.frontend, authorize_id(world.payments_id))


CONNECT = ["connect", "connect_sync", "connect_trio"]


@pytest.mark.parametrize("connect", CONNECT)
def test_plaintext_is_refused_before_anything_is_sent(client: MTLSClient, connect: str) -> None:
    with pytest.raises(InsecureURIError, match="mutual TLS only") as info:
        getattr(client, connect)("ws://127.0.0.1:9")
    assert isinstance(info.value, InvalidURI)


@pytest.mark.parametrize("connect", CONNECT)
@pytest.mark.parametrize("option", ["ssl", "ssl_context", "proxy", "proxy_ssl"])
def test_options_that_go_round_the_policy_are_refused(client: MTLSClient, connect: str, option: str) -> None:
    with pytest.raises(CallerError, match=option):
        getattr(client, connect)("wss://127.0.0.1:9", **{option: None})


@pytest.mark.parametrize("serve", [mtls_serve, mtls_serve_sync])
def test_servers_take_no_other_tls(world: Any, serve: Any) -> None:
    with pytest.raises(CallerError, match="ssl"):
        serve(print, world.payments, authorize_member_of("example.org"), "127.0.0.1", 0, ssl=None)


def test_proxy_variables_are_not_read(world: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "WSS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with pair.connect(served.port, world.frontend, authorize_id(world.payments_id)) as call:
            assert call().peer == world.payments_id


@pytest.mark.parametrize("pair", ["asyncio", "uvloop"], indirect=True)
def test_redirect_to_plaintext_is_refused(world: Any, pair: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        thief.settimeout(0.2)

        def elsewhere(connection: Any, _request: Any) -> Response:
            answer: Response = connection.respond(307, "elsewhere")
            answer.headers["Location"] = f"ws://127.0.0.1:{thief.getsockname()[1]}/stolen"
            return answer

        with pair.serve(world.payments, authorize_id(world.frontend_id), process_request=elsewhere) as served:
            with pair.connect(served.port, world.frontend, authorize_id(world.payments_id)) as call:
                with pytest.raises(SecurityError):
                    call()
        with pytest.raises(TimeoutError):
            thief.accept()


def test_a_connection_from_elsewhere_has_no_peer() -> None:
    async def plain() -> None:
        async def handler(connection: Any) -> None:
            with pytest.raises(NoIdentityError):
                peer_spiffe_id(connection)
            await connection.send("checked")

        async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{port}", proxy=None) as connection:
                assert await connection.recv() == "checked"

    anyio.run(plain)
