"""The contract of every integration, for urllib3."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3
from aiohttp import web
from integration_contract.https import https_server
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, PeerNotAuthorizedError
from authsec_sdk.integrations.urllib3 import InsecureURLError, MTLSPoolManager, mtls_pool_manager, peer_spiffe_id
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import PeerVerificationError, mtls_client_context

Row = Callable[[Pair], None]


class Urllib3Pair(Pair):
    serve = staticmethod(https_server)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        with mtls_pool_manager(source, authorizer, on_rejected=on_rejected, timeout=10) as manager:

            def call() -> Exchange:
                response = manager.request("GET", f"https://127.0.0.1:{port}/", headers={"Connection": "close"})
                return Exchange(peer_spiffe_id(response), SpiffeID.parse(response.data.decode()))

            yield call


@pytest.fixture
def pair() -> Urllib3Pair:
    return Urllib3Pair()


@pytest.fixture
def manager(world: Any) -> Iterator[MTLSPoolManager]:
    with mtls_pool_manager(world.frontend, authorize_id(world.payments_id)) as manager:
        yield manager


def test_client_contract(client_row: Row, pair: Urllib3Pair) -> None:
    client_row(pair)


def test_rotation_under_load(load_row: Row, pair: Urllib3Pair) -> None:
    load_row(pair)


@pytest.mark.parametrize("retries", [None, False])
def test_the_refusal_names_the_id_seen_and_the_one_wanted(world: Any, retries: Any) -> None:
    wanted = authorize_id("spiffe://example.org/orders")
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        with mtls_pool_manager(world.frontend, wanted, retries=retries) as manager:
            with pytest.raises(urllib3.exceptions.HTTPError) as info:
                manager.request("GET", f"https://127.0.0.1:{served.port}/")
    assert isinstance(info.value, urllib3.exceptions.SSLError if retries is False else urllib3.exceptions.MaxRetryError)
    error: BaseException | None = info.value
    while error is not None and not isinstance(error, PeerVerificationError):
        error = error.__context__
    assert error is not None
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert "spiffe://example.org/orders" in str(error)
    assert str(world.payments_id) in str(error)


def test_connections_are_kept(world: Any, manager: MTLSPoolManager) -> None:
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        for _ in range(3):
            assert peer_spiffe_id(manager.request("GET", f"https://127.0.0.1:{served.port}/")) == world.payments_id
    assert len(served.connections) == 1


def test_a_streamed_response_knows_its_peer(world: Any, manager: MTLSPoolManager) -> None:
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        response = manager.request("GET", f"https://127.0.0.1:{served.port}/", preload_content=False)
        assert peer_spiffe_id(response) == world.payments_id
        assert response.read() == str(world.frontend_id).encode()
        response.release_conn()


def test_plain_http_is_refused_before_anything_is_sent(manager: MTLSPoolManager) -> None:
    with pytest.raises(InsecureURLError, match="mutual TLS only"):
        manager.request("GET", "http://127.0.0.1:9/")
    with pytest.raises(InsecureURLError):
        manager.connection_from_host("127.0.0.1", 9)


def test_redirect_to_plain_http_is_refused(world: Any, manager: MTLSPoolManager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        thief.settimeout(0.2)

        async def elsewhere(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{thief.getsockname()[1]}/stolen")

        with https_server(world.payments, authorize_id(world.frontend_id), handler=elsewhere) as served:
            with pytest.raises(InsecureURLError):
                manager.request("GET", f"https://127.0.0.1:{served.port}/")
        with pytest.raises(TimeoutError):
            thief.accept()


FOREIGN = ["ssl_context", "assert_hostname", "ca_certs", "cert_reqs", "cert_file", "assert_fingerprint", "proxy_url"]


@pytest.mark.parametrize("option", FOREIGN)
def test_options_that_go_round_the_policy_are_refused(world: Any, option: str) -> None:
    anybody = authorize_member_of("example.org")
    with pytest.raises(CallerError, match=option):
        mtls_pool_manager(world.frontend, anybody, **{option: None})
    with pytest.raises(CallerError, match=option):
        MTLSPoolManager(mtls_client_context(world.frontend, anybody), **{option: None})


@pytest.mark.parametrize(
    "option", [{"ssl_context": object()}, {"assert_hostname": "a"}, {"cert_reqs": "CERT_NONE"}, {"ca_certs": "/a.pem"}]
)
def test_a_pool_cannot_leave_the_policy(manager: MTLSPoolManager, option: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match=next(iter(option))):
        manager.connection_from_host("127.0.0.1", 9, "https", pool_kwargs=option)


def test_a_response_from_elsewhere_has_no_peer() -> None:
    with pytest.raises(CallerError, match="MTLSPoolManager"):
        peer_spiffe_id(urllib3.HTTPResponse())
