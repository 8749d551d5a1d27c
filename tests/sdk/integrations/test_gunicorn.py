"""gunicorn with the real program: the contract, workers that come and go, and reload."""

import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration_contract.pair import Exchange, Pair
from integration_contract.programs import Program, caller_of, program

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, InvalidAuthorizerError
from authsec_sdk.integrations.gunicorn import HANDSHAKE_TIMEOUT, MTLS
from authsec_sdk.integrations.gunicorn_uvicorn import MTLSUvicornWorker
from authsec_sdk.integrations.httpx import mtls_client

Row = Callable[[Pair], None]

WSGI = """
import os
from authsec_sdk.integrations.wsgi import peer_spiffe_id
from reporting import hit

def app(environ, start_response):
    hit()
    body = str(peer_spiffe_id(environ)).encode()
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Pid", str(os.getpid()))])
    return [body]
"""
ASGI = """
import os
from authsec_sdk.integrations.asgi import peer_spiffe_id
from reporting import hit

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    hit()
    body = str(peer_spiffe_id(scope)).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"x-pid", str(os.getpid()).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
AIOHTTP = """
import os
from aiohttp import web
from authsec_sdk.integrations.aiohttp import peer_spiffe_id
from reporting import hit

async def hello(request):
    hit()
    return web.Response(text=str(peer_spiffe_id(request)), headers={"X-Pid": str(os.getpid())})

app = web.Application()
app.router.add_get("/", hello)
"""
CONFIG = """
import pickle
from authsec_sdk.integrations.gunicorn import MTLS
from reporting import on_rejected, source

mtls = MTLS(pickle.loads({authorizer!r}), source=source, on_rejected=on_rejected, handshake_timeout={timeout})
certfile, ssl_context, post_fork = mtls.certfile, mtls.ssl_context, mtls.post_fork
worker_class = {worker_class!r}
threads = {threads}
control_socket_disable = True
accesslog = "-"
"""
_OURS = "authsec_sdk.integrations.gunicorn"
WORKERS = {
    "sync": (WSGI, "sync"),
    "sync, in full": (WSGI, "gunicorn.workers.sync.SyncWorker"),
    "gthread": (WSGI, "gthread"),
    "uvicorn": (ASGI, f"{_OURS}_uvicorn.MTLSUvicornWorker"),
    "aiohttp": (AIOHTTP, f"{_OURS}_aiohttp.MTLSWebWorker"),
    "aiohttp-uvloop": (AIOHTTP, f"{_OURS}_aiohttp.MTLSUVLoopWebWorker"),
}


class GunicornPair(Pair):
    """httpx calling gunicorn."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.served: Program | None = None

    @contextmanager
    def serve(
        self, source: Any, authorizer: Any, on_rejected: Any = None, *options: str, timeout: float = 10.0
    ) -> Iterator[Program]:
        app, worker_class = WORKERS[self.worker]
        config = CONFIG.format(
            authorizer=pickle.dumps(authorizer),
            worker_class=worker_class,
            threads=4 if self.worker == "gthread" else 1,
            timeout=timeout,
        )

        def command(port: int) -> list[str]:
            return ["-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--graceful-timeout", "5", *options, "served:app"]

        with program(source, on_rejected, {"served.py": app, "gunicorn.conf.py": config}, command) as self.served:
            yield self.served

    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> AbstractContextManager[Callable[[], Exchange]]:
        assert self.served is not None
        return caller_of(self.served, port, source, authorizer, on_rejected)


@pytest.fixture(params=["gthread", "uvicorn"])
def pair(request: pytest.FixtureRequest) -> GunicornPair:
    return GunicornPair(request.param)


@pytest.fixture(params=[name for name in WORKERS if name != "sync, in full"])
def each(request: pytest.FixtureRequest) -> GunicornPair:
    return GunicornPair(request.param)


def test_server_contract(server_row: Row, pair: GunicornPair) -> None:
    server_row(pair)


def test_rotation_under_load(load_row: Row, pair: GunicornPair) -> None:
    load_row(pair)


def pids(world: Any, served: Program, calls: int = 1) -> list[int]:
    seen = []
    for _ in range(calls):
        with mtls_client(world.frontend, authorize_id(world.payments_id), timeout=10) as client:
            response = client.get(f"https://127.0.0.1:{served.port}/")
            assert response.text == str(world.frontend_id)
            seen.append(int(response.headers["x-pid"]))
    return seen


def test_every_worker_follows_a_rotation_and_refuses(world: Any, each: GunicornPair) -> None:
    heard: list[Any] = []
    allowed = authorize_id(world.frontend_id)
    with each.serve(world.payments, allowed, heard.append, "-w", "2", "--preload") as served:
        served.until(lambda: len(served.contexts) == 2, "two workers")
        for _ in range(2):
            assert set(pids(world, served, 4)) <= set(served.contexts)
            world.ca.rotate()
            world.publish()
            world.ca.remove_old_roots()
            world.publish()
            served.until(served.caught_up, "the rotation in both workers")
        world.frontend.publish(world.context(world.ca.svid("/intruder")))
        hits = served.hits
        with mtls_client(world.frontend, authorize_id(world.payments_id), timeout=10) as client:
            with pytest.raises(Exception, match=r"(?i)disconnected|reset|closed|EOF|alert"):
                client.get(f"https://127.0.0.1:{served.port}/")
        served.until(lambda: heard, "the reason")
        assert served.hits == hits
        assert os.getpid() not in served.contexts
        assert served.process.pid not in served.contexts, "the master has no identity"


def test_a_worker_that_dies_or_retires_is_followed_by_one_with_an_identity(world: Any, pair: GunicornPair) -> None:
    allowed = authorize_id(world.frontend_id)
    with pair.serve(world.payments, allowed, None, "--max-requests", "2") as served:
        [first] = pids(world, served)
        os.kill(first, signal.SIGKILL)
        served.until(lambda: len(served.contexts) == 2, "another worker")
        [second] = pids(world, served)
        assert second != first
        pids(world, served)  # the last one that the second serves
        served.until(lambda: len(served.contexts) == 3, "a third worker")
        assert pids(world, served)[0] not in (first, second)


def test_reload_by_sighup(world: Any, pair: GunicornPair) -> None:
    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        [first] = pids(world, served)
        served.process.send_signal(signal.SIGHUP)
        served.until(lambda: len(served.contexts) == 2, "a new worker")
        served.until(lambda: not Path(f"/proc/{first}").exists(), "the end of the old one")
        assert pids(world, served) != [first]


@pytest.mark.parametrize("worker", ["sync", "sync, in full", "gthread", "uvicorn"])
def test_half_of_a_hello_and_plain_http_get_no_answer(world: Any, worker: str) -> None:
    with GunicornPair(worker).serve(world.payments, authorize_id(world.frontend_id), timeout=0.3) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as silent:
            silent.sendall(b"\x16\x03\x01\x02\x00")
            assert silent.recv(1) == b""
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            try:
                assert b"HTTP" not in plain.recv(100)
            except ConnectionResetError:
                pass
        assert served.hits == 0
        pids(world, served)


def test_what_cannot_be() -> None:
    with pytest.raises(InvalidAuthorizerError):
        MTLS(None)  # type: ignore[arg-type]
    for wrong in (0, -1, float("nan")):
        with pytest.raises(CallerError, match="handshake_timeout"):
            MTLS(authorize_member_of("example.org"), handshake_timeout=wrong)
    assert MTLS(authorize_member_of("example.org")).handshake_timeout == HANDSHAKE_TIMEOUT

    assert MTLSUvicornWorker.CONFIG_KWARGS["proxy_headers"] is False

    class Conf:
        ssl_context = staticmethod(lambda _conf, default: default())

    with pytest.raises(CallerError, match=r"gunicorn\.conf\.py"):
        MTLS.of(Conf)
