"""The contract of every integration, for Hypercorn: asyncio, uvloop and trio, HTTP/1.1 and HTTP/2."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import anyio
import httpx
import pytest
from integration_contract.asgi import Echo, httpx_caller
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, InvalidAuthorizerError
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.hypercorn import HANDSHAKE_TIMEOUT, MTLSConfig, run, serve

Row = Callable[[Pair], None]


class HypercornPair(Pair):
    """httpx calling Hypercorn."""

    def __init__(self, loop: str, http2: bool) -> None:
        self.loop = loop
        self.http2 = http2

    @contextmanager
    def serve(
        self, source: Any, authorizer: Any, on_rejected: Any = None, app: Any = None, **options: Any
    ) -> Iterator[Any]:
        app = app or Echo()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        app.port = listener.getsockname()[1]
        options = {"loglevel": "CRITICAL", "graceful_timeout": 1, "keep_alive_timeout": 1, **options}
        with LoopThread(self.loop) as thread:
            stop: Any = thread.run(_event)

            async def serving() -> None:
                await serve(
                    app,
                    source,
                    authorizer,
                    on_rejected=on_rejected,
                    shutdown_trigger=stop.wait,
                    bind=[f"fd://{listener.detach()}"],
                    **options,
                )

            task = thread.portal.start_task_soon(serving)
            try:
                yield app
            finally:
                thread.portal.call(stop.set)
                task.result(20)

    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> AbstractContextManager[Callable[[], Exchange]]:
        return httpx_caller(port, source, authorizer, on_rejected, http2=self.http2)


async def _event() -> anyio.Event:
    return anyio.Event()


@pytest.fixture(params=["asyncio-1.1", "asyncio-2", "uvloop-1.1", "trio-1.1", "trio-2"])
def pair(request: pytest.FixtureRequest) -> HypercornPair:
    loop, _, version = request.param.partition("-")
    return HypercornPair(loop, version == "2")


@pytest.fixture(params=["asyncio", "trio"])
def one_of_each(request: pytest.FixtureRequest) -> HypercornPair:
    return HypercornPair(request.param, request.param == "trio")


def test_server_contract(server_row: Row, pair: HypercornPair) -> None:
    server_row(pair)


def test_rotation_under_load(load_row: Row, one_of_each: HypercornPair) -> None:
    load_row(one_of_each)


def test_the_protocol_is_the_one_asked_for(world: Any, pair: HypercornPair) -> None:
    with pair.serve(world.payments, authorize_id(world.frontend_id)) as app:
        with pair.connect(app.port, world.frontend, authorize_id(world.payments_id)) as call:
            call()
    assert app.versions == {"2" if pair.http2 else "1.1"}
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]


def test_the_scope_carries_the_tls_extension(world: Any, one_of_each: HypercornPair) -> None:
    class Noting(Echo):
        seen: Any = None

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.seen = dict(scope["extensions"]["tls"])
                scope["extensions"]["spiffe"]["peer"] = scope["extensions"]["spiffe"]["peer"]
            await super().__call__(scope, receive, send)

    with one_of_each.serve(world.payments, authorize_id(world.frontend_id), app=Noting()) as app:
        with one_of_each.connect(app.port, world.frontend, authorize_id(world.payments_id)) as call:
            call()
    leaf = ssl.PEM_cert_to_DER_cert(app.seen["client_cert_chain"][0])
    assert leaf == world.frontend.x509_context.svid.chain_der()[0]
    assert app.seen["tls_version"] == 0x0304


def test_connections_do_not_mix_up_their_peers(world: Any, one_of_each: HypercornPair) -> None:
    one = one_of_each
    with one.serve(world.payments, authorize_member_of("example.org")) as app:
        url = f"https://127.0.0.1:{app.port}/"
        payments = authorize_id(world.payments_id)
        with mtls_client(world.frontend, payments, http2=one.http2) as first:
            assert first.get(url).text == str(world.frontend_id)
            with mtls_client(world.payments, payments, http2=one.http2) as second:
                assert second.get(url).text == str(world.payments_id)
                assert first.get(url).text == str(world.frontend_id)


def test_wsgi_is_served_to_whom_the_authorizer_accepts(world: Any) -> None:
    seen: list[dict[str, Any]] = []

    class Wsgi:
        port = 0

        def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.append(environ)
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]

    pair = HypercornPair("asyncio", http2=False)
    with pair.serve(world.payments, authorize_id(world.frontend_id), app=Wsgi()) as app:
        url = f"https://127.0.0.1:{app.port}/"
        with mtls_client(world.frontend, authorize_id(world.payments_id)) as client:
            assert client.get(url).text == "ok"
        with mtls_client(world.payments, authorize_id(world.payments_id)) as client, pytest.raises(httpx.HTTPError):
            client.get(url)
    assert len(seen) == 1
    assert not [name for name in seen[0] if "spiffe" in name.lower() or "tls" in name.lower()]


def test_headers_cannot_name_a_caller(world: Any, one_of_each: HypercornPair) -> None:
    with one_of_each.serve(world.payments, authorize_id(world.frontend_id)) as app:
        with mtls_client(world.frontend, authorize_id(world.payments_id), http2=one_of_each.http2) as client:
            claim = {"x-forwarded-client-cert": "URI=spiffe://example.org/admin"}
            assert client.get(f"https://127.0.0.1:{app.port}/", headers=claim).text == str(world.frontend_id)


def test_who_connects_and_stays_silent_is_let_go_of(world: Any, one_of_each: HypercornPair) -> None:
    with one_of_each.serve(world.payments, authorize_id(world.frontend_id), handshake_timeout=0.2) as app:
        with socket.create_connection(("127.0.0.1", app.port), timeout=20) as silent:
            assert silent.recv(1) == b""


@pytest.mark.parametrize(
    "option",
    [
        *("certfile", "keyfile", "ca_certs", "insecure_bind", "quic_bind", "verify_mode", "workers", "nonsense"),
        *("create_ssl_context", "ssl_enabled", "create_sockets", "from_mapping"),
    ],
)
def test_options_that_are_not_the_users_to_set(world: Any, option: str) -> None:
    with pytest.raises(CallerError, match=option):
        MTLSConfig(world.payments, authorize_id(world.frontend_id), **{option: "x"})


def test_what_cannot_be(world: Any) -> None:
    allowed = authorize_id(world.frontend_id)
    assert MTLSConfig(world.payments, allowed).ssl_handshake_timeout == HANDSHAKE_TIMEOUT
    for wrong in (0, -1, float("nan")):
        with pytest.raises(CallerError, match="handshake_timeout"):
            MTLSConfig(world.payments, allowed, handshake_timeout=wrong)
    with pytest.raises(CallerError, match="worker_class"):
        run("app:app", allowed, worker_class="gevent")
    with pytest.raises(CallerError, match="bind"):
        run("app:app", allowed, bind=["127.0.0.1:0"])
    with pytest.raises(InvalidAuthorizerError):
        run("app:app", None)  # type: ignore[arg-type]
