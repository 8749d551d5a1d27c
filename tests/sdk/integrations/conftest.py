"""Two workloads of one trust domain, and a uvicorn server in a thread, for the contract every integration keeps."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.asgi import peer_spiffe_id
from authsec_sdk.integrations.uvicorn import MTLSConfig
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA

FRONTEND = SpiffeID.parse("spiffe://example.org/frontend")
PAYMENTS = SpiffeID.parse("spiffe://example.org/payments")


class World:
    """A CA, its two workloads, and what each of them trusts."""

    def __init__(self) -> None:
        self.ca = TestCA("example.org")
        self.other = TestCA("other.test")
        self.frontend = X509ContextHolder()
        self.payments = X509ContextHolder()
        self.frontend_id, self.payments_id = FRONTEND, PAYMENTS
        self.publish()

    def context(self, svid: X509SVID, *bundles: X509Bundle) -> X509Context:
        return X509Context(svids=(svid,), bundles=BundleSet.of(*(bundles or (self.ca.bundle(), self.other.bundle()))))

    def publish(self) -> None:
        """Give both workloads new SVIDs and the bundles as they are now."""
        self.frontend.publish(self.context(self.ca.svid("/frontend")))
        self.payments.publish(self.context(self.ca.svid("/payments")))


@pytest.fixture
def world() -> World:
    return World()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the caller's SPIFFE ID."""
    body = str(peer_spiffe_id(scope)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


class Counted:
    """An application that knows how many requests reached it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.hits = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.hits += 1
        await self.app(scope, receive, send)


class Running:
    """A uvicorn server in a thread of its own."""

    def __init__(self, config: Callable[[], uvicorn.Config]) -> None:
        self._config = config
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server: uvicorn.Server | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uvicorn")

    def _run(self) -> None:
        config = self._config()
        self._server = uvicorn.Server(config)

        async def serve() -> None:
            assert self._server is not None
            task = asyncio.ensure_future(self._server.serve(sockets=[self._listener]))
            while not self._server.started and not task.done():
                await asyncio.sleep(0.01)
            self._started.set()
            await task

        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(serve())

    @contextmanager
    def running(self) -> Iterator["Running"]:
        self._thread.start()
        assert self._started.wait(20)
        try:
            yield self
        finally:
            assert self._server is not None
            self._server.should_exit = True
            self._thread.join(20)
            self._listener.close()
            assert not self._thread.is_alive()


@pytest.fixture
def serve(world: World) -> Callable[..., Any]:
    """Return a context manager that serves an application as ``payments`` and accepts ``frontend``."""

    @contextmanager
    def start(app: Any = echo, authorizer: Any = None, **options: Any) -> Iterator[Running]:
        def config() -> uvicorn.Config:
            options.setdefault("log_level", "warning")
            options.setdefault("lifespan", "off")
            return MTLSConfig(app, world.payments, authorizer or authorize_id(FRONTEND), **options)

        with Running(config).running() as server:
            yield server

    return start
