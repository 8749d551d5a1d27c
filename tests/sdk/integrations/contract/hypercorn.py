"""Applications of ASGI frameworks, held to the contract on trio, through Hypercorn."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anyio
from integration_contract.asgi import httpx_caller
from integration_contract.loops import LoopThread
from integration_contract.pair import Pair

from authsec_sdk.integrations.hypercorn import serve as serve_hypercorn


class TrioPair(Pair):
    """Serves an ASGI application, which must answer / with its caller's SPIFFE ID, to httpx."""

    connect = staticmethod(httpx_caller)

    def __init__(self, app: Any) -> None:
        self.app = app

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Any]:
        served = SimpleNamespace(port=0, hits=0)

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            served.hits += scope["type"] == "http"
            await self.app(scope, receive, send)

        async def event() -> anyio.Event:
            return anyio.Event()

        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        served.port = listener.getsockname()[1]
        options: dict[str, Any] = {"loglevel": "CRITICAL", "graceful_timeout": 1, "keep_alive_timeout": 1}
        with LoopThread("trio") as thread:
            stop = thread.run(event)
            options["bind"] = [f"fd://{listener.detach()}"]

            async def run() -> None:
                await serve_hypercorn(
                    counted, source, authorizer, on_rejected=on_rejected, shutdown_trigger=stop.wait, **options
                )

            task = thread.portal.start_task_soon(run)
            try:
                yield served
            finally:
                thread.portal.call(stop.set)
                task.result(20)
