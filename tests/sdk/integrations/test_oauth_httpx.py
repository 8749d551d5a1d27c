"""JWT-SVIDs as client assertions: an authorization server takes them for access tokens, which go with requests."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError, SpiffeError, UnavailableError
from authsec_sdk.integrations.httpx import InsecureURLError, mtls_async_client, mtls_client
from authsec_sdk.integrations.oauth_httpx import (
    SPIFFE_ASSERTION,
    ClientCredentialsAuth,
    TokenEndpointError,
    read_token,
)
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.workloadapi import JWTSource

ISSUER = "https://as.example"
OK = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 300}


class Service:
    """An authorization server at /token that validates assertions, and a service that takes its tokens."""

    def __init__(self, keys: JWTSource) -> None:
        self.keys = keys
        self.forms: list[dict[str, list[str]]] = []
        self.issued: list[str] = []
        self.expires_in: int | None = 300
        self.revoked: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status, body = 200, b"{}"
        if scope["path"] == "/token":
            form = parse_qs((await receive())["body"].decode(), strict_parsing=True)
            self.forms.append(form)
            svid = self.keys.validate(form["client_assertion"][0], [ISSUER])
            self.issued.append(f"at-{len(self.issued)}.{svid.id.path[1:]}")
            answer = {"access_token": self.issued[-1], "token_type": "bearer"}
            body = json.dumps(answer | ({} if self.expires_in is None else {"expires_in": self.expires_in})).encode()
        else:
            header = dict(scope["headers"]).get(b"authorization", b"").decode()
            token = header.removeprefix("Bearer ")
            status = 200 if token in self.issued and token not in self.revoked else 401
            body = token.encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def source(world: Any) -> Iterator[JWTSource]:
    with FakeWorkloadAPI() as agent:
        agent.issue(world.ca, "/frontend")
        with JWTSource(agent.address) as source:
            yield source


@pytest.fixture
def service(source: JWTSource) -> Service:
    return Service(source)


def test_in_threads(world: Any, serve: Any, source: JWTSource, service: Service) -> None:
    payments = authorize_id(world.payments_id)
    with serve(service) as server, mtls_client(world.frontend, payments) as plain:
        auth = ClientCredentialsAuth(source, plain, f"{server.url}/token", issuer=ISSUER, scope="read", client_id="me")
        with mtls_client(world.frontend, payments, auth=auth) as client:
            assert [client.get(f"{server.url}/").text for _ in range(3)] == ["at-0.frontend"] * 3
            [form] = service.forms
            assert form.pop("client_assertion")
            assert form == {
                "grant_type": ["client_credentials"],
                "client_assertion_type": [SPIFFE_ASSERTION],
                "scope": ["read"],
                "client_id": ["me"],
            }
            service.revoked.add("at-0.frontend")
            assert client.get(f"{server.url}/").status_code == 401
            assert client.get(f"{server.url}/").text == "at-1.frontend", "a 401 makes the next request ask again"
            service.expires_in = None
            service.revoked.add("at-1.frontend")
            client.get(f"{server.url}/")
            assert [client.get(f"{server.url}/").text for _ in range(2)] == ["at-2.frontend", "at-3.frontend"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_event_loops_one_request_asks_for_all(
    world: Any, serve: Any, source: JWTSource, service: Service, backend: str
) -> None:
    payments = authorize_id(world.payments_id)

    async def ask(url: str) -> list[str]:
        answers: list[str] = []
        async with mtls_async_client(world.frontend, payments) as plain:
            auth = ClientCredentialsAuth(source, plain, f"{url}/token", issuer=ISSUER)
            async with mtls_async_client(world.frontend, payments, auth=auth) as client:

                async def one() -> None:
                    answers.append((await client.get(f"{url}/")).text)

                async with anyio.create_task_group() as tasks:
                    for _ in range(8):
                        tasks.start_soon(one)
        return answers

    with serve(service) as server:
        assert anyio.run(ask, server.url, backend=backend) == ["at-0.frontend"] * 8
    assert len(service.forms) == 1


def test_many_threads_ask_once(world: Any, serve: Any, source: JWTSource, service: Service) -> None:
    payments = authorize_id(world.payments_id)
    with serve(service) as server, mtls_client(world.frontend, payments) as plain:
        auth = ClientCredentialsAuth(source, plain, f"{server.url}/token", issuer=ISSUER)
        with mtls_client(world.frontend, payments, auth=auth) as client:
            threads = [threading.Thread(target=client.get, args=(f"{server.url}/",)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
    assert len(service.forms) == 1


def answering(status: int, body: bytes = b"", **headers: str) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(status, content=body, headers=headers)))


def asked(source: JWTSource, plain: httpx.Client) -> httpx.Response:
    auth = ClientCredentialsAuth(source, plain, "https://as.example/token", issuer=ISSUER)
    with answering(200, b"never without a token") as service:
        return service.get("https://service.example/", auth=auth)


def test_a_refusal_is_told_by_its_code_and_nothing_else(source: JWTSource) -> None:
    with answering(401, b'{"error": "invalid_client", "error_description": "secret text"}') as plain:
        with pytest.raises(TokenEndpointError, match="invalid_client") as refused:
            asked(source, plain)
    assert refused.value.error == "invalid_client"
    assert "secret" not in str(refused.value)


def test_a_redirect_of_the_token_endpoint_is_not_followed(source: JWTSource) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(307, headers={"location": "https://elsewhere.example/"})

    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as plain:
        with pytest.raises(TokenEndpointError):
            asked(source, plain)
    assert seen == ["https://as.example/token"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_who_may_answer_later_is_unavailable(source: JWTSource, status: int) -> None:
    with answering(status) as plain, pytest.raises(UnavailableError):
        asked(source, plain)


def test_nobody_there(source: JWTSource) -> None:
    with httpx.Client() as plain:
        auth = ClientCredentialsAuth(source, plain, "https://127.0.0.1:9/token", issuer=ISSUER)
        with answering(200) as service, pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
            service.get("https://service.example/", auth=auth)


def test_nothing_leaves_without_tls(source: JWTSource) -> None:
    with answering(200, json.dumps(OK).encode()) as plain:
        with pytest.raises(InsecureURLError):
            ClientCredentialsAuth(source, plain, "http://as.example/token", issuer=ISSUER)
        auth = ClientCredentialsAuth(source, plain, "https://as.example/token", issuer=ISSUER)
        with pytest.raises(InsecureURLError):
            plain.get("http://service.example/", auth=auth)
        with pytest.raises(CallerError):
            ClientCredentialsAuth(source, plain, "https://as.example/token", issuer="")


def test_a_client_of_the_wrong_kind(source: JWTSource) -> None:
    auth = ClientCredentialsAuth(source, httpx.AsyncClient(), "https://as.example/token", issuer=ISSUER)
    with answering(200) as service, pytest.raises(CallerError):
        service.get("https://service.example/", auth=auth)


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_token": ""},
        {"access_token": "a b"},
        {"access_token": "a\nX-Header: b"},
        {"access_token": 1},
        {"token_type": "DPoP"},
        {"token_type": None},
        {"expires_in": "300"},
        {"expires_in": -1},
        {"expires_in": True},
    ],
)
def test_what_is_no_token(wrong: dict[str, Any]) -> None:
    with pytest.raises(TokenEndpointError):
        read_token(200, json.dumps(OK | wrong).encode(), 0.0)


def test_a_token_is_not_used_at_its_end_and_never_shown() -> None:
    token = read_token(200, json.dumps(OK).encode(), 1000.0)
    assert (token.good(1269.9), token.good(1270.0)) == (True, False)
    short = read_token(200, json.dumps(OK | {"expires_in": 10}).encode(), 1000.0)
    assert (short.good(1004.9), short.good(1005.0)) == (True, False)
    assert "at-1" not in repr(token)


@given(
    st.integers(100, 599), st.binary(max_size=200) | st.recursive(st.none(), st.lists).map(lambda v: repr(v).encode())
)
def test_no_answer_raises_anything_else(status: int, body: bytes) -> None:
    with pytest.raises(SpiffeError):
        read_token(status, body, 0.0)


def test_depth_and_size_are_no_trouble() -> None:
    for body in (b"[" * 60000, b'{"access_token": "' + b"a" * 70000 + b'", "token_type": "bearer"}'):
        with pytest.raises(TokenEndpointError):
            read_token(200, body, 0.0)
