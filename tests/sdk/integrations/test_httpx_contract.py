"""The contract of every integration, for httpx: in threads, on asyncio, uvloop and trio."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from integration_contract.https import https_server
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair

from authsec_sdk.integrations.httpx import mtls_async_client, mtls_client, peer_spiffe_id
from authsec_sdk.spiffe import SpiffeID

Row = Callable[[Pair], None]
CLOSE = {"Connection": "close"}


class HttpxPair(Pair):
    serve = staticmethod(https_server)

    def __init__(self, backend: str) -> None:
        self.backend = backend

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        url = f"https://127.0.0.1:{port}/"

        def exchange(response: httpx.Response) -> Exchange:
            return Exchange(peer_spiffe_id(response), SpiffeID.parse(response.text))

        if self.backend == "threads":
            with mtls_client(source, authorizer, on_rejected=on_rejected) as client:
                yield lambda: exchange(client.get(url, headers=CLOSE))
            return

        async def make() -> httpx.AsyncClient:
            return mtls_async_client(source, authorizer, on_rejected=on_rejected)

        with LoopThread(self.backend) as thread:
            asynchronous = thread.run(make)

            async def call() -> Exchange:
                return exchange(await asynchronous.get(url, headers=CLOSE))

            try:
                yield lambda: thread.run(call)
            finally:
                thread.run(asynchronous.aclose)


@pytest.fixture(params=["threads", "asyncio", "uvloop", "trio"])
def pair(request: pytest.FixtureRequest) -> HttpxPair:
    return HttpxPair(request.param)


def test_client_contract(client_row: Row, pair: HttpxPair) -> None:
    client_row(pair)


def test_rotation_under_load(load_row: Row, pair: HttpxPair) -> None:
    load_row(pair)
