"""The contract of every integration, for uvicorn: h11 and httptools, on asyncio and uvloop."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from integration_contract.asgi import Echo, httpx_caller
from integration_contract.pair import Exchange, Pair

Row = Callable[[Pair], None]


class UvicornPair(Pair):
    """httpx calling uvicorn, which runs in a thread of its own."""

    def __init__(self, serve: Any, loop: str, http: str) -> None:
        self._serve = serve
        self.options = {"loop": loop, "http": http}

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Any]:
        app = Echo()
        with self._serve(app, authorizer, on_rejected=on_rejected, **self.options) as server:
            app.port = int(server.url.rpartition(":")[2])
            yield app

    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> AbstractContextManager[Callable[[], Exchange]]:
        return httpx_caller(port, source, authorizer, on_rejected)


@pytest.fixture(params=["asyncio-h11", "asyncio-httptools", "uvloop-h11", "uvloop-httptools"])
def pair(request: pytest.FixtureRequest, serve: Any) -> UvicornPair:
    return UvicornPair(serve, *request.param.split("-"))


@pytest.fixture(params=["asyncio-h11", "uvloop-httptools"])
def one_of_each(request: pytest.FixtureRequest, serve: Any) -> UvicornPair:
    return UvicornPair(serve, *request.param.split("-"))


def test_server_contract(server_row: Row, pair: UvicornPair) -> None:
    server_row(pair)


def test_rotation_under_load(load_row: Row, one_of_each: UvicornPair) -> None:
    load_row(one_of_each)
