"""One httpx client, an authorizer for each destination: sync, asyncio and trio."""

import socket
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from aiohttp import web
from integration_contract.https import https_server

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.httpx import (
    InsecureURLError,
    UnnamedDestinationError,
    mtls_async_client,
    mtls_client,
    peer_spiffe_id,
)

Get = Callable[..., list[Any]]


def get_sync(source: Any, authorizers: Any, *urls: str, **options: Any) -> list[Any]:
    with mtls_client(source, authorizers, **options) as client:
        return [peer_spiffe_id(client.get(url)) for url in urls]


def get_async(backend: str) -> Get:
    def get(source: Any, authorizers: Any, *urls: str, **options: Any) -> list[Any]:
        async def ask() -> list[Any]:
            async with mtls_async_client(source, authorizers, **options) as client:
                return [peer_spiffe_id(await client.get(url)) for url in urls]

        return anyio.run(ask, backend=backend)

    return get


@pytest.fixture(params=["sync", "asyncio", "trio"])
def get(request: pytest.FixtureRequest) -> Get:
    return get_sync if request.param == "sync" else get_async(request.param)


def test_each_destination_has_its_own_policy(world: Any, get: Get) -> None:
    frontend = authorize_id(world.frontend_id)
    with https_server(world.payments, frontend) as payments, https_server(world.frontend, frontend) as other:
        here, there = f"127.0.0.1:{payments.port}", f"127.0.0.1:{other.port}"
        rightly = {here: authorize_id(world.payments_id), there: authorize_id(world.frontend_id)}
        peers = get(world.frontend, rightly, f"https://{here}/", f"https://{there}/")
        assert peers == [world.payments_id, world.frontend_id]
        swapped = {there: authorize_id(world.payments_id), here: authorize_id(world.frontend_id)}
        for where in (here, there):
            with pytest.raises(httpx.ConnectError):
                get(world.frontend, swapped, f"https://{where}/")
    assert (payments.hits, other.hits) == (1, 1)


def test_a_destination_not_named_is_refused_before_anything_is_sent(world: Any, get: Get) -> None:
    authorizers = {"payments.internal": authorize_id(world.payments_id)}
    for url in ("https://127.0.0.1:9/", "https://payments.internal:9/", "https://evil.payments.internal/"):
        with pytest.raises(UnnamedDestinationError, match="no authorizer"):
            get(world.frontend, authorizers, url)
    with pytest.raises(InsecureURLError):
        get(world.frontend, authorizers, "http://payments.internal/")


def test_a_redirect_elsewhere_is_refused(world: Any, get: Get) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        thief.settimeout(0.2)

        async def elsewhere(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"https://127.0.0.1:{thief.getsockname()[1]}/stolen")

        with https_server(world.payments, authorize_id(world.frontend_id), handler=elsewhere) as served:
            authorizers = {f"127.0.0.1:{served.port}": authorize_id(world.payments_id)}
            with pytest.raises(UnnamedDestinationError):
                get(world.frontend, authorizers, f"https://127.0.0.1:{served.port}/", follow_redirects=True)
        with pytest.raises(TimeoutError):
            thief.accept()


@pytest.mark.parametrize(
    "wrong", ["", "a/b", "https://a", "u@a", "a?b", "a#b", "*.a", "a:port", "a:99999", "a:0", "a:", "[::1", "a b", "a/"]
)
def test_wrong_destinations_are_refused_at_once(world: Any, wrong: str) -> None:
    for factory in (mtls_client, mtls_async_client):
        with pytest.raises(CallerError, match="destination"):
            factory(world.frontend, {wrong: authorize_id(world.payments_id)})


def test_none_and_twice_are_refused_at_once(world: Any) -> None:
    one = authorize_id(world.payments_id)
    with pytest.raises(CallerError, match="no destinations"):
        mtls_client(world.frontend, {})
    with pytest.raises(CallerError, match="named twice"):
        mtls_client(world.frontend, {"a": one, "A:443": one})
