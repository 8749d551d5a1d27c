"""The contract of every integration, for httpx: sync, asyncio and trio as one parameter."""

import ssl
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, PeerNotAuthorizedError, SpiffeError, UntrustedPeerError
from authsec_sdk.integrations.httpx import InsecureURLError, mtls_async_client, mtls_client, peer_spiffe_id
from authsec_sdk.tls import PeerVerificationError, Rejection

Get = Callable[..., httpx.Response]


def get_sync(source: Any, authorizer: Any, url: str, **options: Any) -> tuple[httpx.Response, Any]:
    with mtls_client(source, authorizer, **options) as client:
        response = client.get(url)
        return response, peer_spiffe_id(response)


def get_async(backend: str) -> Callable[..., tuple[httpx.Response, Any]]:
    def get(source: Any, authorizer: Any, url: str, **options: Any) -> tuple[httpx.Response, Any]:
        async def ask() -> tuple[httpx.Response, Any]:
            async with mtls_async_client(source, authorizer, **options) as client:
                response = await client.get(url)
                return response, peer_spiffe_id(response)

        return anyio.run(ask, backend=backend)

    return get


@pytest.fixture(params=["sync", "asyncio", "trio"])
def get(request: pytest.FixtureRequest) -> Callable[..., tuple[httpx.Response, Any]]:
    return get_sync if request.param == "sync" else get_async(request.param)


def chain_of(error: BaseException | None) -> list[BaseException]:
    """Return an error and what caused it, through groups too."""
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def verification_error(info: pytest.ExceptionInfo[Any]) -> PeerVerificationError:
    return next(error for error in chain_of(info.value) if isinstance(error, PeerVerificationError))


def test_connects_and_each_side_reads_the_other(world: Any, serve: Any, get: Any) -> None:
    with serve() as server:
        response, peer = get(world.frontend, authorize_id(world.payments_id), server.url)
    assert (response.status_code, response.text, peer) == (200, str(world.frontend_id), world.payments_id)


def test_new_certificate_on_the_next_connection(world: Any, serve: Any) -> None:
    serials = []
    with serve() as server, mtls_client(world.frontend, authorize_id(world.payments_id)) as client:
        for _ in range(2):
            with client.stream("GET", server.url, headers={"Connection": "close"}) as response:
                ssl_object = response.extensions["network_stream"].get_extra_info("ssl_object")
                serials.append(ssl_object.getpeercert(True))  # httpcore gives the object of `_ssl` here: no keywords
                response.read()
            world.publish()
    assert serials[0] != serials[1]


def test_new_root_is_honoured_and_a_removed_one_is_not(world: Any, serve: Any, get: Any) -> None:
    with serve() as server:
        kept = world.context(world.ca.svid("/frontend"))
        world.ca.rotate()
        world.publish()
        assert get(world.frontend, authorize_id(world.payments_id), server.url)[0].status_code == 200
        world.ca.remove_old_roots()
        world.payments.publish(world.context(world.ca.svid("/payments")))
        world.frontend.publish(kept)  # still presents, and trusts only, what the old root signed
        with pytest.raises(httpx.TransportError):
            get(world.frontend, authorize_id(world.payments_id), server.url)
        world.publish()
        assert get(world.frontend, authorize_id(world.payments_id), server.url)[0].status_code == 200


def test_wrong_server_is_refused_with_the_reason(world: Any, serve: Any, get: Any) -> None:
    heard: list[Rejection] = []
    with serve() as server, pytest.raises(httpx.ConnectError) as info:
        get(world.frontend, authorize_id("spiffe://example.org/orders"), server.url, on_rejected=heard.append)
    error = verification_error(info)
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert str(world.payments_id) in str(error)
    assert "spiffe://example.org/orders" in str(error)
    assert [str(rejection.spiffe_id) for rejection in heard] == [str(world.payments_id)]
    assert isinstance(error, ssl.SSLCertVerificationError)


def test_cross_domain_forgery_is_refused(world: Any, serve: Any, get: Any) -> None:
    world.payments.publish(world.context(world.other.svid(world.payments_id)))
    with serve() as server, pytest.raises(httpx.ConnectError) as info:
        get(world.frontend, authorize_id(world.payments_id), server.url)
    assert isinstance(verification_error(info).reason, UntrustedPeerError)


def test_a_caller_refused_in_the_handshake_never_reaches_the_application(world: Any, serve: Any, get: Any) -> None:
    heard: list[Rejection] = []
    app = CountingApp()
    with serve(app, on_rejected=heard.append) as server:
        world.frontend.publish(world.context(world.ca.svid("/intruder")))
        with pytest.raises(httpx.TransportError):
            get(world.frontend, authorize_id(world.payments_id), server.url)
        assert app.hits == 0
        world.publish()
        assert get(world.frontend, authorize_id(world.payments_id), server.url)[0].status_code == 200
    assert app.hits == 1
    assert [str(rejection.spiffe_id) for rejection in heard] == ["spiffe://example.org/intruder"]


class CountingApp:
    def __init__(self) -> None:
        self.hits = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.hits += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


def test_plain_http_is_refused_before_anything_is_sent(world: Any, get: Any) -> None:
    with pytest.raises(InsecureURLError, match="mutual TLS only") as info:
        get(world.frontend, authorize_id(world.payments_id), "http://127.0.0.1:9/")
    assert isinstance(info.value, SpiffeError)


def test_redirect_to_plain_http_is_refused(world: Any, serve: Any, get: Any) -> None:
    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"location", b"http://127.0.0.1:9/stolen"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body"})

    with serve(elsewhere) as server, pytest.raises(InsecureURLError):
        get(world.frontend, authorize_id(world.payments_id), server.url, follow_redirects=True)


@pytest.mark.parametrize("option", ["verify", "cert", "proxy", "transport", "trust_env", "mounts"])
def test_options_that_go_round_the_policy_are_refused(world: Any, option: str) -> None:
    for factory in (mtls_client, mtls_async_client):
        with pytest.raises(CallerError, match=option):
            factory(world.frontend, authorize_member_of("example.org"), **{option: None})


def test_proxy_variables_are_not_read(world: Any, serve: Any, get: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve() as server:
        assert get(world.frontend, authorize_id(world.payments_id), server.url)[0].status_code == 200


def test_what_the_transport_is_told_reaches_it(world: Any, serve: Any) -> None:
    options: dict[str, Any] = {"limits": httpx.Limits(max_connections=1), "timeout": httpx.Timeout(20, pool=0.1)}
    with serve() as server, mtls_client(world.frontend, authorize_id(world.payments_id), **options) as client:
        with client.stream("GET", server.url), pytest.raises(httpx.PoolTimeout):
            client.get(server.url)
        assert client.get(server.url).status_code == 200


def test_a_response_from_elsewhere_has_no_peer() -> None:
    with pytest.raises(CallerError, match="mtls_client"):
        peer_spiffe_id(httpx.Response(200))
