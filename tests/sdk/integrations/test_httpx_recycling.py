"""After a rotation an httpx client's requests use new connections, and requests under way are not cut: all backends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from integration_contract.https import https_server
from integration_contract.loops import LoopThread

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_async_client, mtls_client

Client = Callable[..., Any]


@contextmanager
def blocking_client(backend: str, source: Any, authorizer: Any) -> Iterator[Any]:
    """Give `send(url)`, an answer whose body is not read yet, and `read(response)`, for any backend."""
    if backend == "sync":
        with mtls_client(source, authorizer) as client:
            yield (
                lambda url: client.send(client.build_request("GET", url), stream=True),
                lambda response: (response.read(), response.text)[1],
            )
        return
    with LoopThread(backend) as thread:

        async def make() -> httpx.AsyncClient:
            return mtls_async_client(source, authorizer)

        client_ = thread.run(make)

        async def send(url: str) -> httpx.Response:
            return await client_.send(client_.build_request("GET", url), stream=True)

        async def read(response: httpx.Response) -> str:
            await response.aread()
            return response.text

        try:
            yield (lambda url: thread.run(send, url), lambda response: thread.run(read, response))
        finally:
            thread.run(client_.aclose)


@pytest.mark.parametrize("backend", ["sync", "asyncio", "uvloop", "trio"])
def test_a_rotation_starts_a_new_pool_and_cuts_nothing(world: Any, backend: str) -> None:
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        url = f"https://127.0.0.1:{served.port}/"
        with blocking_client(backend, world.frontend, authorize_id(world.payments_id)) as (send, read):
            for _ in range(3):
                assert read(send(url)) == str(world.frontend_id)
            assert len(served.connections) == 1, "one connection is kept between rotations"
            under_way = send(url)
            world.publish()
            for _ in range(3):
                assert read(send(url)) == str(world.frontend_id)
            assert len(served.connections) == 2
            assert read(under_way) == str(world.frontend_id)
            world.publish()
            assert read(send(url)) == str(world.frontend_id)
            assert len(served.connections) == 3


@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_without_an_identity_what_is_open_goes_on(world: Any, backend: str) -> None:
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        url = f"https://127.0.0.1:{served.port}/"
        with blocking_client(backend, world.frontend, authorize_id(world.payments_id)) as (send, read):
            assert read(send(url)) == str(world.frontend_id)
            world.frontend.close()
            assert read(send(url)) == str(world.frontend_id)
