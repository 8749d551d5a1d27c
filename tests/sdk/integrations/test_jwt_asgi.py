"""JWT-SVIDs as the credential of requests: who gets through the middleware, what others hear, what the log hears."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError, InvalidAuthorizerError, SpiffeError
from authsec_sdk.integrations.jwt_asgi import JWTBearerMiddleware, TokenIdentity, token_identity
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import JWTSource

pytestmark = pytest.mark.anyio

FRONTEND = SpiffeID.parse("spiffe://example.org/frontend")


@pytest.fixture
def ca() -> TestCA:
    return TestCA("example.org")


@pytest.fixture
def source(ca: TestCA) -> Iterator[JWTSource]:
    with FakeWorkloadAPI() as agent:
        agent.issue(ca, "/payments")
        with JWTSource(agent.address) as source:
            yield source


class Application:
    """Remembers whom it served."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["type"] if scope["type"] == "lifespan" else token_identity(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})


class Heard:
    """What `on_refused` is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[SpiffeID | None, str, SpiffeError]] = []

    def __call__(self, caller: SpiffeID | None, path: str, reason: SpiffeError) -> None:
        self.calls.append((caller, path, reason))


async def ask(
    app: Any, *authorization: str, kind: str = "http", extensions: Any = None, query: str = ""
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    headers = [(b"authorization", value.encode("latin-1")) for value in authorization]
    scope = {"type": kind, "path": "/pay", "query_string": query.encode(), "headers": headers}
    scope["extensions"] = extensions or {"spiffe": {"peer": None}}

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with anyio.fail_after(20):
        await app(scope, receive, send)
    return sent


def middleware(source: Any, app: Any = None, heard: Any = None) -> JWTBearerMiddleware:
    return JWTBearerMiddleware(app or Application(), source, "payments", authorize_id(FRONTEND), on_refused=heard)


async def test_a_good_token_names_its_caller_beside_the_peer_of_the_connection(ca: TestCA, source: JWTSource) -> None:
    app = Application()
    token = ca.tokens.jwt_token("/frontend", ["payments"])
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await ask(middleware(source, app), f"{scheme} {token}")
        assert answer[0]["status"] == 200
    identity = app.seen[0]
    assert isinstance(identity, TokenIdentity)
    assert (identity.spiffe_id, identity.audience) == (FRONTEND, ("payments",))
    assert not isinstance(identity, SpiffeID), "nobody takes it for the peer of a connection"
    assert token not in repr(identity)


WRONG: dict[str, tuple[int, str | None]] = {
    "none": (401, 'Bearer realm="spiffe"'),
    "basic": (401, 'Bearer realm="spiffe"'),
    "two": (400, 'Bearer realm="spiffe", error="invalid_request"'),
    "no token": (400, 'Bearer realm="spiffe", error="invalid_request"'),
    "two tokens": (400, 'Bearer realm="spiffe", error="invalid_request"'),
    "not ASCII": (400, 'Bearer realm="spiffe", error="invalid_request"'),
    "garbage": (401, 'Bearer realm="spiffe", error="invalid_token"'),
    "huge": (401, 'Bearer realm="spiffe", error="invalid_token"'),
    "other audience": (401, 'Bearer realm="spiffe", error="invalid_token"'),
    "expired": (401, 'Bearer realm="spiffe", error="invalid_token"'),
    "forged": (401, 'Bearer realm="spiffe", error="invalid_token"'),
    "unknown domain": (401, 'Bearer realm="spiffe", error="invalid_token"'),
    "intruder": (403, None),
}


@pytest.mark.parametrize("what", WRONG)
async def test_whoever_is_wrong_hears_a_status_and_we_hear_the_reason(
    what: str, ca: TestCA, source: JWTSource, caplog: pytest.LogCaptureFixture
) -> None:
    good = ca.tokens.jwt_token("/frontend", ["payments"])
    headers = {
        "none": [],
        "basic": ["Basic YTpi"],
        "two": [f"Bearer {good}", f"Bearer {good}"],
        "no token": ["Bearer "],
        "two tokens": [f"Bearer {good} {good}"],
        "not ASCII": [f"Bearer {good}\xe9"],
        "garbage": ["Bearer abc"],
        "huge": ["Bearer " + "a" * 1_000_000],
        "other audience": [f"Bearer {ca.tokens.jwt_token('/frontend', ['orders'])}"],
        "expired": [f"Bearer {ca.tokens.jwt_token('/frontend', ['payments'], ttl=timedelta(hours=-1))}"],
        "forged": [f"Bearer {TestCA('example.org').tokens.jwt_token('/frontend', ['payments'])}"],
        "unknown domain": [f"Bearer {TestCA('other.test').tokens.jwt_token(FRONTEND, ['payments'])}"],
        "intruder": [f"Bearer {ca.tokens.jwt_token('/intruder', ['payments'])}"],
    }[what]
    app, heard = Application(), Heard()
    with caplog.at_level(logging.WARNING):
        start, body = await ask(middleware(source, app, heard), *headers)
    status, challenge = WRONG[what]
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    assert (start["status"], answered.get("www-authenticate")) == (status, challenge)
    assert json.loads(body["body"]).keys() == {"type", "title", "status"}, "no reason"
    assert app.seen == []
    [(caller, path, reason)] = heard.calls
    assert path == "/pay"
    assert str(reason) in caplog.text
    assert str(caller) == ("spiffe://example.org/intruder" if what == "intruder" else "None")
    assert good not in caplog.text


async def test_a_token_bound_to_a_key_is_no_bearer_token(ca: TestCA, source: JWTSource) -> None:
    app, heard = Application(), Heard()
    token = ca.tokens.jwt_token("/frontend", ["payments"], claims={"cnf": {"jkt": "x"}})
    start, _ = await ask(middleware(source, app, heard), f"Bearer {token}")
    assert (start["status"], app.seen) == (401, [])
    assert "cnf" in str(heard.calls[0][2])


async def test_tokens_in_urls_are_not_looked_at(ca: TestCA, source: JWTSource) -> None:
    app = Application()
    token = ca.tokens.jwt_token("/frontend", ["payments"])
    start, _ = await ask(middleware(source, app), query=f"access_token={token}")
    assert (start["status"], app.seen) == (401, [])


async def test_without_keys_the_answer_is_to_come_again() -> None:
    source = JWTSource("unix:///nowhere/agent.sock")
    try:
        start, _ = await ask(middleware(source), "Bearer a.b.c")
    finally:
        source.close()
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]


async def test_websockets_are_refused_before_they_are_accepted(ca: TestCA, source: JWTSource) -> None:
    app = Application()
    assert await ask(middleware(source, app), kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    answer = await ask(middleware(source, app), kind="websocket", extensions={"websocket.http.response": {}})
    assert [message["type"] for message in answer] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert answer[0]["status"] == 401
    assert app.seen == []
    await ask(middleware(source, app), f"Bearer {ca.tokens.jwt_token('/frontend', ['payments'])}", kind="websocket")
    assert app.seen[0].spiffe_id == FRONTEND


async def test_lifespan_passes_through(source: JWTSource) -> None:
    app = Application()
    await ask(middleware(source, app), kind="lifespan")
    assert app.seen == ["lifespan"]


async def test_what_cannot_be(source: JWTSource) -> None:
    for audience in ("", (), [""], [3]):
        with pytest.raises(CallerError, match="audience"):
            JWTBearerMiddleware(Application(), source, audience, authorize_id(FRONTEND))  # type: ignore[arg-type]
    with pytest.raises(InvalidAuthorizerError):
        JWTBearerMiddleware(Application(), source, "payments", None)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="JWTBearerMiddleware"):
        token_identity({"type": "http", "extensions": {"spiffe": {"peer": FRONTEND}}})
