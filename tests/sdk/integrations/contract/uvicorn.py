"""Applications of ASGI frameworks, held to the contract through uvicorn."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from integration_contract.asgi import httpx_caller
from integration_contract.loops import LoopThread
from integration_contract.pair import Pair

from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer


class UvicornPair(Pair):
    """Serves an ASGI application, which must answer / with its caller's SPIFFE ID, to httpx."""

    connect = staticmethod(httpx_caller)

    def __init__(self, app: Any, lifespan: str = "off", loop: str = "asyncio") -> None:
        self.app = app
        self.lifespan = lifespan
        self.loop = loop

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Any]:
        served = SimpleNamespace(port=0, hits=0)

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            served.hits += scope["type"] == "http"
            await self.app(scope, receive, send)

        options = {"log_level": "critical", "lifespan": self.lifespan}
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
            listener.bind(("127.0.0.1", 0))
            served.port = listener.getsockname()[1]
            with LoopThread(self.loop) as thread:
                server = MTLSServer(MTLSConfig(counted, source, authorizer, on_rejected=on_rejected, **options))

                async def run() -> None:
                    await server.serve(sockets=[listener])

                done = thread.portal.start_task_soon(run)
                deadline = time.monotonic() + 20
                while not server.started:
                    assert not done.done(), done.exception()
                    assert time.monotonic() < deadline, "not serving in time"
                    time.sleep(0.005)
                try:
                    yield served
                finally:
                    server.should_exit = True
                    done.result(20)
