"""JWT-SVIDs as the credential of requests to WSGI applications, behind a real server."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from integration_contract.wsgiref import WsgirefPair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, InvalidAuthorizerError
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.jwt_wsgi import JWTBearerMiddleware, TokenIdentity, token_identity
from authsec_sdk.integrations.wsgi import peer_spiffe_id
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import JWTSource

FRONTEND = "spiffe://example.org/frontend"


def who(environ: Any, start_response: Any) -> list[bytes]:
    """Answer with who sent the token, and who is at the other end of the connection."""
    body = f"{token_identity(environ).spiffe_id} by way of {peer_spiffe_id(environ).path}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def source(world: Any) -> Iterator[JWTSource]:
    with FakeWorkloadAPI() as agent:
        agent.issue(world.ca, "/payments")
        with JWTSource(agent.address) as source:
            yield source


@pytest.fixture
def refused() -> list[tuple[Any, str, Any]]:
    return []


@pytest.fixture
def client(world: Any, source: JWTSource, refused: Any) -> Iterator[httpx.Client]:
    def heard(caller: Any, path: str, reason: Any) -> None:
        refused.append((caller, path, reason))

    app = JWTBearerMiddleware(who, source, "payments", authorize_id(FRONTEND), on_refused=heard)
    gateway = world.context(world.ca.svid("/gateway"))
    world.frontend.publish(gateway)
    with WsgirefPair(app).serve(world.payments, authorize_member_of("example.org")) as served:
        url = f"https://127.0.0.1:{served.port}"
        with mtls_client(world.frontend, authorize_id(world.payments_id), base_url=url) as client:
            yield client


def bearer(ca: TestCA, path: str = "/frontend", **options: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {ca.tokens.jwt_token(path, ['payments'], **options)}"}


def test_a_good_token_names_its_caller_beside_the_peer(world: Any, client: httpx.Client) -> None:
    answer = client.get("/", headers=bearer(world.ca))
    assert (answer.status_code, answer.text) == (200, f"{FRONTEND} by way of /gateway")


def test_whoever_is_wrong_hears_a_status_and_we_hear_the_reason(
    world: Any, client: httpx.Client, refused: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "authsec_sdk.integrations.jwt_wsgi")
    good = bearer(world.ca)["Authorization"]
    asked: list[tuple[Any, int]] = [
        ({}, 401),
        ({"Authorization": "Basic YTpi"}, 401),
        ({"Authorization": "Bearer"}, 400),
        ({"Authorization": f"{good} x"}, 400),
        ([("Authorization", good), ("Authorization", good)], 400),
        ([("Authorization", good), ("Authorization", "x")], 401),
        (bearer(world.ca, ttl=timedelta(hours=-1)), 401),
        (bearer(world.other), 401),
        (bearer(world.ca, "/intruder"), 403),
    ]
    for headers, status in asked:
        answer = client.get("/x", headers=headers)
        assert answer.status_code == status, headers
        assert answer.json() == {"type": "about:blank", "title": answer.json()["title"], "status": status}
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("www-authenticate" in answer.headers) == (status != 403)
    assert [path for _, path, _ in refused] == ["/x"] * len(asked)
    assert str(refused[-1][0]) == "spiffe://example.org/intruder"
    assert len(caplog.records) == len(asked)
    assert good.split()[1] not in caplog.text


def test_without_the_middleware_there_is_nobody() -> None:
    with pytest.raises(CallerError, match="JWTBearerMiddleware"):
        token_identity({"authsec.token": FRONTEND})


def test_what_cannot_be(source: JWTSource) -> None:
    for audience in ("", [], [""]):
        with pytest.raises(CallerError):
            JWTBearerMiddleware(who, source, audience, authorize_id(FRONTEND))
    with pytest.raises(InvalidAuthorizerError):
        JWTBearerMiddleware(who, source, "payments", None)  # type: ignore[arg-type]
    assert TokenIdentity.__slots__
