"""The contract of every integration, for requests."""

import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from aiohttp import web
from integration_contract.https import https_server
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError, PeerNotAuthorizedError
from authsec_sdk.integrations.requests import InsecureURLError, mtls_session, peer_spiffe_id
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import PeerVerificationError

Row = Callable[[Pair], None]


class RequestsPair(Pair):
    serve = staticmethod(https_server)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        with mtls_session(source, authorizer, on_rejected=on_rejected) as session:

            def call() -> Exchange:
                response = session.get(f"https://127.0.0.1:{port}/", headers={"Connection": "close"}, timeout=10)
                return Exchange(peer_spiffe_id(response), SpiffeID.parse(response.text))

            yield call


@pytest.fixture
def pair() -> RequestsPair:
    return RequestsPair()


@pytest.fixture
def session(world: Any) -> Iterator[requests.Session]:
    with mtls_session(world.frontend, authorize_id(world.payments_id)) as session:
        yield session


def test_client_contract(client_row: Row, pair: RequestsPair) -> None:
    client_row(pair)


def test_rotation_under_load(load_row: Row, pair: RequestsPair) -> None:
    load_row(pair)


def test_the_refusal_names_the_id_seen_and_the_one_wanted(world: Any) -> None:
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        with mtls_session(world.frontend, authorize_id("spiffe://example.org/orders")) as session:
            with pytest.raises(requests.exceptions.SSLError) as info:
                session.get(f"https://127.0.0.1:{served.port}/", timeout=10)
    error: BaseException | None = info.value
    while error is not None and not isinstance(error, PeerVerificationError):
        error = error.__cause__ or error.__context__
    assert error is not None
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert "spiffe://example.org/orders" in str(error)
    assert str(world.payments_id) in str(error)


def test_connections_are_kept(world: Any, session: requests.Session) -> None:
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        for _ in range(3):
            response = session.get(f"https://127.0.0.1:{served.port}/", timeout=10)
            assert peer_spiffe_id(response) == world.payments_id
    assert len(served.connections) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "HTTP://127.0.0.1:9/"])
def test_plain_http_is_refused_before_anything_is_sent(session: requests.Session, url: str) -> None:
    with pytest.raises(InsecureURLError, match="mutual TLS only") as info:
        session.get(url, timeout=10)
    assert isinstance(info.value, requests.RequestException)


def test_redirect_to_plain_http_is_refused(world: Any, session: requests.Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        thief.settimeout(0.2)

        async def elsewhere(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{thief.getsockname()[1]}/stolen")

        with https_server(world.payments, authorize_id(world.frontend_id), handler=elsewhere) as served:
            with pytest.raises(InsecureURLError):
                session.get(f"https://127.0.0.1:{served.port}/", timeout=10)
        with pytest.raises(TimeoutError):
            thief.accept()


@pytest.mark.parametrize(
    "option",
    [{"verify": False}, {"verify": "/a.pem"}, {"cert": "/a.pem"}, {"proxies": {"https": "http://127.0.0.1:9"}}],
)
def test_a_request_cannot_leave_the_policy(session: requests.Session, option: dict[str, Any]) -> None:
    with pytest.raises(InsecureURLError, match="leave them out"):
        session.get("https://127.0.0.1:9/", timeout=10, **option)
    for name, value in option.items():
        setattr(session, name, value)
    with pytest.raises(InsecureURLError, match="leave them out"):
        session.get("https://127.0.0.1:9/", timeout=10)


def test_the_environment_is_not_read(world: Any, session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with https_server(world.payments, authorize_id(world.frontend_id)) as served:
        assert session.get(f"https://127.0.0.1:{served.port}/", timeout=10).text == str(world.frontend_id)


def test_even_where_somebody_turns_the_environment_on_proxies_are_refused(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    session.trust_env = True
    with pytest.raises(InsecureURLError):
        session.get("https://192.0.2.1/", timeout=10)


def test_a_session_is_not_pickled(session: requests.Session) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(session)


def test_a_response_from_elsewhere_has_no_peer() -> None:
    with pytest.raises(CallerError):
        peer_spiffe_id(requests.Response())
