"""uvicorn over mutual TLS: h11 and httptools, asyncio and uvloop; refusals never reach the application."""

import logging
import socket
import ssl
from typing import Any

import httpx
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.asgi import Route, RouteAuthorizationMiddleware
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.uvicorn import MTLSConfig


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_application_reads_the_caller(world: Any, serve: Any, http: str, loop: str) -> None:
    with serve(http=http, loop=loop) as server, mtls_client(world.frontend, authorize_id(world.payments_id)) as client:
        assert client.get(server.url).text == str(world.frontend_id)


def test_the_scope_carries_the_tls_extension(world: Any, serve: Any, http: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["extensions"]["tls"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with serve(app, http=http) as server, mtls_client(world.frontend, authorize_id(world.payments_id)) as client:
        client.get(server.url)
    leaf = ssl.PEM_cert_to_DER_cert(seen[0]["client_cert_chain"][0])
    assert leaf == world.frontend.x509_context.svid.chain_der()[0]
    assert seen[0]["tls_version"] == 0x0304


def test_identities_rotate_and_removed_roots_are_refused(world: Any, serve: Any, http: str) -> None:
    with serve(http=http) as server:
        for _ in range(3):
            world.ca.rotate()
            world.publish()
            world.ca.remove_old_roots()
            world.publish()
            with mtls_client(world.frontend, authorize_id(world.payments_id)) as client:
                assert client.get(server.url).status_code == 200


def test_what_a_handler_writes_into_its_scope_ends_with_it(world: Any, serve: Any, http: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = str(scope["extensions"]["spiffe"]["peer"]).encode()
        scope["extensions"]["spiffe"]["peer"] = "spiffe://example.org/admin"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with serve(app, http=http) as server, mtls_client(world.frontend, authorize_id(world.payments_id)) as client:
        assert [client.get(server.url).text for _ in range(2)] == [str(world.frontend_id)] * 2


def test_no_certificate_is_refused(world: Any, serve: Any) -> None:
    with serve() as server, httpx.Client(verify=unverified()) as client, pytest.raises(httpx.TransportError):
        client.get(server.url)


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_plain_http_gets_no_answer(world: Any, serve: Any) -> None:
    with serve() as server:
        port = int(server.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"HTTP" not in plain.recv(100)


def test_headers_cannot_name_a_caller(world: Any, serve: Any) -> None:
    claimed = {"x-forwarded-client-cert": "URI=spiffe://example.org/admin", "x-forwarded-for": "10.0.0.1"}
    with serve() as server, mtls_client(world.frontend, authorize_id(world.payments_id)) as client:
        assert client.get(server.url, headers=claimed).text == str(world.frontend_id)


def test_routes_refuse_with_403(world: Any, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    routes = [Route("/mine", authorize_id(world.frontend_id)), Route("/theirs", authorize_id("spiffe://example.org/x"))]
    with (
        caplog.at_level(logging.WARNING),
        serve(RouteAuthorizationMiddleware(app, routes)) as server,
        mtls_client(world.frontend, authorize_id(world.payments_id), base_url=server.url) as client,
    ):
        assert client.get("/mine").status_code == 204
        refused = client.get("/theirs")
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["title"] == "Forbidden"
    assert "spiffe://example.org/x" in caplog.text


@pytest.mark.parametrize("option", ["ssl_certfile", "ssl_keyfile", "ssl_context_factory", "workers", "reload", "http2"])
def test_options_that_are_not_the_users_to_set(world: Any, option: str) -> None:
    with pytest.raises(CallerError, match=option):
        MTLSConfig(lambda: None, world.payments, authorize_id(world.frontend_id), **{option: 1})  # type: ignore[arg-type]


def test_forwarded_headers_are_not_believed_by_default(world: Any) -> None:
    config = MTLSConfig(lambda: None, world.payments, authorize_id(world.frontend_id))  # type: ignore[arg-type]
    assert config.proxy_headers is False
