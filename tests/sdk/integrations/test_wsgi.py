"""WSGI over mutual TLS, by the standard library's server: who calls, who may, and whom a trusted front speaks for."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from integration_contract.pair import Pair
from integration_contract.wsgiref import WsgirefPair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, InvalidAuthorizerError, NoIdentityError, SpiffeError
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.trusted_front import TrustedFronts
from authsec_sdk.integrations.wsgi import (
    PolicyMiddleware,
    Route,
    RouteAuthorizationMiddleware,
    TrustedFrontMiddleware,
    forwarded_peer,
    peer_spiffe_id,
)
from authsec_sdk.integrations.wsgiref import make_server
from authsec_sdk.spiffe import SpiffeID

Row = Callable[[Pair], None]
FRONT, PAYMENTS = SpiffeID.parse("spiffe://example.org/front"), SpiffeID.parse("spiffe://example.org/payments")
FRONTEND = SpiffeID.parse("spiffe://example.org/frontend")
ADMIN = SpiffeID.parse("spiffe://example.org/admin")
MEMBERS, ONLY_ADMIN = authorize_member_of("example.org"), authorize_id(ADMIN)
SAID = f"By={PAYMENTS};Hash={'ab' * 32};URI={ADMIN}"
FORBIDDEN = {"type": "about:blank", "title": "Forbidden", "status": 403}


def tells(environ: Any, start_response: Any) -> Any:
    """Answer with the peer, the forwarded client, and what of the header reached the application."""
    forwarded = environ.get("authsec.forwarded")
    seen = sorted(key for key in environ if "FORWARDED" in key and key.startswith("HTTP_"))
    told = {"peer": str(peer_spiffe_id(environ)), "client": forwarded and str(forwarded.spiffe_id), "headers": seen}
    body = json.dumps(told).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def who(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(peer_spiffe_id(environ)).encode()]


def test_server_contract(server_row: Row) -> None:
    server_row(WsgirefPair(who))


def test_rotation_under_load(load_row: Row) -> None:
    load_row(WsgirefPair(who))


@contextmanager
def running(world: Any, app: Any) -> Iterator[str]:
    with WsgirefPair(app).serve(world.payments, MEMBERS) as served:
        yield f"https://127.0.0.1:{served.port}"


@contextmanager
def client_of(world: Any, url: str, path: str = "/frontend") -> Iterator[httpx.Client]:
    world.frontend.publish(world.context(world.ca.svid(path)))
    with mtls_client(world.frontend, authorize_id(PAYMENTS), base_url=url) as client:
        yield client


# --- routes --------------------------------------------------------------------------------------------------------


def test_routes(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[SpiffeID | None, str, SpiffeError]] = []
    routes = [Route("/**", MEMBERS), Route("/admin/**", ONLY_ADMIN), Route("/post", MEMBERS, frozenset({"POST"}))]
    app = RouteAuthorizationMiddleware(tells, routes, on_refused=lambda *refusal: heard.append(refusal))
    with caplog.at_level(logging.WARNING), running(world, app) as url, client_of(world, url) as client:
        assert client.get("/").json()["peer"] == str(FRONTEND)
        assert client.get("/caf%C3%A9").status_code == 200
        refused = client.get("/admin/x")
        for path in ("/%61dmin/x", "/x/%2e%2e/admin/x", "/a//admin/x", "/caf%E9", "/a%5Cb"):
            assert client.get(path).status_code == 403, path
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
    assert refused.json() == FORBIDDEN
    assert heard[0][:2] == (FRONTEND, "/admin/x")
    assert str(ADMIN) in caplog.text


def test_a_policy(world: Any) -> None:
    class ReadOnly:
        generation = 0
        authorizer = MEMBERS

        def authorize(self, peer: SpiffeID, request: Any) -> None:
            if str(request) != "GET '/things'":
                ONLY_ADMIN(peer)

    with running(world, PolicyMiddleware(tells, ReadOnly())) as url, client_of(world, url) as client:
        assert [client.get("/things").status_code, client.post("/things").status_code] == [200, 403]
    with pytest.raises(InvalidAuthorizerError):
        PolicyMiddleware(tells, MEMBERS)  # type: ignore[arg-type]


# --- where there is no peer ----------------------------------------------------------------------------------------


def called(app: Any, environ: dict[str, Any]) -> tuple[str, Any]:
    """Call an application without any server."""
    status: list[str] = []
    body = app(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **environ}, lambda line, _headers: status.append(line.split()[0])
    )
    return status[0], json.loads(b"".join(body))


def test_what_a_plain_server_says_is_not_believed() -> None:
    """Loopback, a Unix socket, a proxy's variables: none of them is a peer."""
    routes = RouteAuthorizationMiddleware(tells, [Route("/**", MEMBERS)])
    fronts = TrustedFrontMiddleware(tells, TrustedFronts(PAYMENTS, [FRONT]))
    one, other = socket.socketpair()
    with one, other:
        for environ in (
            {},
            {"gunicorn.socket": one, "HTTP_X_FORWARDED_CLIENT_CERT": SAID},
            {"werkzeug.socket": None, "SSL_CLIENT_CERT": "-----BEGIN CERTIFICATE-----", "SSL_CLIENT_VERIFY": "SUCCESS"},
            {"HTTP_GUNICORN.SOCKET": "x", "HTTP_AUTHSEC_SOCKET": "x", "authsec.socket": str(FRONT)},
        ):
            for app in (routes, fronts):
                assert called(app, environ) == ("403", FORBIDDEN)
    with pytest.raises(CallerError, match="let the WSGI server end TLS itself"):
        peer_spiffe_id({})
    with pytest.raises(CallerError, match="TrustedFrontMiddleware"):
        forwarded_peer({})
    with pytest.raises(NoIdentityError):
        forwarded_peer({"authsec.forwarded": str(FRONT)})


# --- trusted fronts ------------------------------------------------------------------------------------------------


@contextmanager
def fronted(world: Any, path: str = "/front") -> Iterator[Callable[[Any], Any]]:
    """Give what calls the application with headers; the peer is the front."""
    app = TrustedFrontMiddleware(tells, TrustedFronts(PAYMENTS, [FRONT]))
    with running(world, app) as url, client_of(world, url, path) as client:

        def call(headers: Any) -> Any:
            answer = client.get("/", headers=headers)
            return answer.json() if answer.status_code == 200 else answer.status_code

        yield call


def test_a_front_speaks_for_its_client(world: Any) -> None:
    with fronted(world) as call:
        assert call([("x-forwarded-client-cert", SAID)]) == {"peer": str(FRONT), "client": str(ADMIN), "headers": []}
        assert call([]) == {"peer": str(FRONT), "client": None, "headers": []}


@pytest.mark.parametrize("name", ["X_Forwarded_Client_Cert", "x-forwarded-client_cert", "X_FORWARDED-CLIENT-CERT"])
def test_a_spelling_that_becomes_one_with_the_header_is_refused(world: Any, name: str) -> None:
    real, forged = ("x-forwarded-client-cert", SAID.replace("admin", "user")), (name, SAID)
    with fronted(world) as call:
        for headers in ([forged], [forged, real], [real, forged]):
            assert call(headers) == 403


def test_a_name_with_underscores_does_not_become_one_with_the_real_header(world: Any) -> None:
    def tenant(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ.get("HTTP_X_TENANT", "none").encode()]

    with running(world, tenant) as url, client_of(world, url) as client:
        forged, real = ("X_Tenant", "forged"), ("X-Tenant", "real")
        assert [client.get("/", headers=headers).text for headers in ([forged], [forged, real])] == ["none", "real"]


def test_two_headers_are_refused(world: Any) -> None:
    with fronted(world) as call:
        assert call([("x-forwarded-client-cert", SAID), ("X-Forwarded-Client-Cert", SAID)]) == 403


def test_others_are_not_believed_and_the_application_never_sees_it(world: Any) -> None:
    with fronted(world, "/frontend") as call:
        for name in ("x-forwarded-client-cert", "X_Forwarded_Client_Cert"):
            assert call([(name, SAID)]) == {"peer": str(FRONTEND), "client": None, "headers": []}


def test_without_the_headers_as_they_came_a_front_is_refused(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A server that maps headers and keeps nothing: the order cannot be known any more."""

    def forgetful(environ: Any, start_response: Any) -> Any:
        del environ["authsec.headers"]
        return TrustedFrontMiddleware(tells, TrustedFronts(PAYMENTS, [FRONT]))(environ, start_response)

    with running(world, forgetful) as url, client_of(world, url, "/front") as client:
        assert client.get("/", headers={"x-forwarded-client-cert": SAID}).status_code == 403
    assert "keep_raw_headers" in caplog.text


def test_routes_for_clients_of_a_front(world: Any) -> None:
    routes = [Route("/**", authorize_id(FRONT), forwarded=ONLY_ADMIN)]
    app = TrustedFrontMiddleware(RouteAuthorizationMiddleware(tells, routes), TrustedFronts(PAYMENTS, [FRONT]))
    with running(world, app) as url:
        with client_of(world, url, "/front") as client:
            assert client.get("/", headers={"x-forwarded-client-cert": SAID}).status_code == 200
            assert client.get("/", headers={"x-forwarded-client-cert": SAID.replace("admin", "x")}).status_code == 403
            assert client.get("/").status_code == 403
        with client_of(world, url, "/admin") as client:
            assert client.get("/", headers={"x-forwarded-client-cert": SAID}).status_code == 403


# --- the server of the standard library ------------------------------------------------------------------------------


def test_who_stays_silent_holds_nobody_up(world: Any) -> None:
    with pytest.raises(CallerError, match="handshake_timeout"):
        make_server(who, world.payments, MEMBERS, handshake_timeout=0)
    with make_server(who, world.payments, MEMBERS, handshake_timeout=0.3) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with socket.create_connection(server.server_address[:2], timeout=20) as silent:
                with client_of(world, f"https://127.0.0.1:{server.server_address[1]}") as client:
                    assert client.get("/").status_code == 200
                assert silent.recv(1) == b"", "let go of"
        finally:
            server.shutdown()
            thread.join()


def test_malformed_requests_get_an_answer_and_the_server_goes_on(world: Any) -> None:
    from authsec_sdk.tls import mtls_client_context

    context = mtls_client_context(world.frontend, authorize_id(PAYMENTS))
    with WsgirefPair(who).serve(world.payments, MEMBERS) as served:
        for sent, answer in ((b"rubbish\r\n\r\n", b"400"), (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b"414")):
            with socket.create_connection(("127.0.0.1", served.port), timeout=20) as plain:
                with context.wrap_socket(plain) as tls:
                    tls.sendall(sent)
                    assert answer in tls.recv(1000)
        with client_of(world, f"https://127.0.0.1:{served.port}") as client:
            assert client.get("/").text == str(FRONTEND)
