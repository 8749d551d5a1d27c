"""Authorization by route: the order does not matter, refusal is the default, the caller learns nothing."""

import json
import logging
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.authz import Request, authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, NoIdentityError, SpiffeError
from authsec_sdk.integrations.asgi import PolicyMiddleware, Route, RouteAuthorizationMiddleware, peer_spiffe_id
from authsec_sdk.policyfile import parse_policy
from authsec_sdk.spiffe import SpiffeID

FRONTEND = SpiffeID.parse("spiffe://example.org/frontend")
INTRUDER = SpiffeID.parse("spiffe://example.org/intruder")


async def served(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


def call(app: Any, path: str = "/pay", peer: SpiffeID | None = FRONTEND, method: str = "POST", **more: Any) -> Any:
    """Drive an application through one scope; return the messages it sent."""
    sent: list[Any] = []
    scope: dict[str, Any] = {"type": "http", "path": path, "method": method, "extensions": {"spiffe": {"peer": peer}}}
    scope.update(more)

    async def receive() -> Any:
        return {"type": "websocket.connect" if scope["type"] == "websocket" else "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent


def protected(*routes: Route, **options: Any) -> RouteAuthorizationMiddleware:
    return RouteAuthorizationMiddleware(served, routes or (Route("/pay", authorize_id(FRONTEND)),), **options)


def test_the_named_caller_is_served() -> None:
    assert call(protected())[-1]["body"] == b"served"


@pytest.mark.parametrize(
    "request_",
    [
        {"peer": INTRUDER},
        {"peer": None},
        {"path": "/other"},
        {"path": "/pay/../pay"},
        {"path": "//pay"},
        {"path": "/./pay"},
        {"path": "/pay\\x"},
        {"path": "x/pay"},
        {"path": "http:/pay"},
        {"path": "/pay\x00"},
        {"path": "/pay", "raw_path": b"/%2fpay"},
        {"method": "post"},
        {"extensions": {}},
        {"extensions": {"spiffe": {"peer": "spiffe://example.org/frontend"}}},
    ],
)
def test_everything_else_is_refused_with_a_problem_document(request_: dict[str, Any]) -> None:
    start, body = call(protected(), **request_)
    assert start["status"] == 403
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"]) == {"type": "about:blank", "title": "Forbidden", "status": 403}


def test_the_operator_hears_the_reason_and_the_caller_does_not(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[SpiffeID | None, str, SpiffeError]] = []
    with caplog.at_level(logging.WARNING):
        sent = call(protected(on_refused=lambda *refusal: heard.append(refusal)), peer=INTRUDER)
    assert str(INTRUDER) in caplog.text
    assert str(FRONTEND) in caplog.text
    assert str(FRONTEND).encode() not in sent[1]["body"]
    assert heard[0][:2] == (INTRUDER, "/pay")


def test_every_matching_route_must_accept() -> None:
    members, only = Route("/**", authorize_member_of("example.org")), Route("/pay", authorize_id(FRONTEND))
    for routes in ((members, only), (only, members)):
        assert call(protected(*routes), peer=INTRUDER)[0]["status"] == 403
        assert call(protected(*routes), peer=FRONTEND)[0]["status"] == 200
        assert call(protected(*routes), peer=INTRUDER, path="/elsewhere")[0]["status"] == 200


def test_a_slash_at_the_end_does_not_lead_round_a_route() -> None:
    members, admin = authorize_member_of("example.org"), authorize_id("spiffe://example.org/admin")
    app = protected(Route("/**", members), Route("/admin", admin), Route("/sub/*", admin))
    assert [call(app, path=path)[0]["status"] for path in ("/admin", "/admin/", "/sub/a/", "/sub/")] == [403] * 3 + [
        200
    ]


@pytest.mark.parametrize("guard", ["routes", "policy"])
def test_the_prefix_an_application_is_served_under_leads_round_no_rule(guard: str) -> None:
    """Routers take both `/api/admin` and `/admin` for `/admin` where `root_path` is `/api`."""
    if guard == "routes":
        admin = Route("/admin/**", authorize_id("spiffe://example.org/admin"))
        app: Any = protected(Route("/**", authorize_member_of("example.org")), admin)
    else:
        rules = [
            {"name": "members", "allow": "example.org", "http": {"paths": "/**"}},
            {"name": "admin", "deny": "spiffe://example.org/frontend", "http": {"paths": "/admin/**"}},
        ]
        app = PolicyMiddleware(served, parse_policy(json.dumps({"version": 1, "rules": rules}).encode(), "json"))
    below: dict[str, Any] = {"root_path": "/api"}
    mounted = {"app_root_path": "/api", "root_path": "/api/admin"}
    for path, scope in (
        ("/admin", {}),
        ("/admin", below),
        ("/api/admin", below),
        ("/api/admin/x", below),
        ("/api/admin/x", mounted),
        ("/admin/x", mounted),
        ("/admin/x", {"app_root_path": "", "root_path": "/admin"}),
    ):
        assert call(app, path=path, **scope)[0]["status"] == 403, (path, scope)
    for path, scope in (("/api/admin", {}), ("/api", below), ("/apiadmin", below), ("/api/other", below)):
        assert call(app, path=path, **scope)[0]["status"] == 200, (path, scope)


def test_methods_limit_a_route() -> None:
    app = protected(Route("/pay", authorize_id(FRONTEND), methods=frozenset({"post"})))
    assert call(app, method="POST")[0]["status"] == 200
    assert call(app, method="GET")[0]["status"] == 403


def test_a_method_in_small_letters_does_not_escape_its_route() -> None:
    members, admin = authorize_member_of("example.org"), authorize_id("spiffe://example.org/admin")
    app = protected(Route("/**", members), Route("/pay", admin, methods=frozenset({"POST"})))
    assert call(app, method="GET")[0]["status"] == 200
    assert [call(app, method=method)[0]["status"] for method in ("POST", "post", "Post")] == [403, 403, 403]


def test_a_route_for_get_holds_for_head_too() -> None:
    members, admin = authorize_member_of("example.org"), authorize_id("spiffe://example.org/admin")
    app = protected(Route("/**", members), Route("/pay", admin, methods=frozenset({"get"})))
    assert [call(app, method=method)[0]["status"] for method in ("GET", "HEAD", "POST")] == [403, 403, 200]
    assert not Route("/", members, methods=frozenset({"HEAD"})).matches(Request.http("GET", "/"))


@pytest.mark.parametrize("methods", [frozenset(), "POST"])
def test_a_route_that_would_never_match_is_refused_at_once(methods: Any) -> None:
    with pytest.raises(CallerError, match="methods="):
        Route("/", authorize_id(FRONTEND), methods=methods)


def test_a_path_cannot_write_lines_of_its_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert call(protected(), path="/x\nPeer accepted", method="GET\nX")[0]["status"] == 403
    assert "\n" not in caplog.messages[0]


@pytest.mark.parametrize(
    ("pattern", "good", "wrong"),
    [
        ("/a", ["/a", "/a/"], ["/", "/a/b", "/A"]),
        ("/a/*", ["/a/b"], ["/a", "/a/", "/a/b/c"]),
        ("/a/**", ["/a", "/a/", "/a/b", "/a/b/c"], ["/", "/b", "/ab"]),
        ("/*/b", ["/a/b"], ["/b", "/a/c"]),
        ("/**", ["/", "/a", "/a/b"], []),
        ("/", ["/"], ["/a"]),
    ],
)
def test_patterns(pattern: str, good: list[str], wrong: list[str]) -> None:
    route = Route(pattern, authorize_id(FRONTEND))
    assert [path for path in good if not route.matches(Request.http("GET", path))] == []
    assert [path for path in wrong if route.matches(Request.http("GET", path))] == []


@pytest.mark.parametrize("pattern", ["", "a", "/a/", "/a*", "/**/b", "/a//b", "/../a", "/a\\b", "/a%2fb"])
def test_wrong_patterns_are_refused_at_once(pattern: str) -> None:
    with pytest.raises(CallerError):
        Route(pattern, authorize_id(FRONTEND))


def test_no_routes_is_an_error() -> None:
    with pytest.raises(CallerError, match="no routes"):
        RouteAuthorizationMiddleware(served, [])


def test_an_async_authorizer_is_refused_at_once() -> None:
    async def yes(_peer: SpiffeID) -> None: ...

    with pytest.raises(CallerError):
        Route("/", yes)  # type: ignore[arg-type]


def test_websockets_are_refused_before_they_are_accepted() -> None:
    app = protected()
    assert call(app, type="websocket", peer=INTRUDER) == [{"type": "websocket.close", "code": 1008}]
    answer = {"spiffe": {"peer": INTRUDER}, "websocket.http.response": {}}
    start, body = call(app, type="websocket", extensions=answer)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert json.loads(body["body"])["status"] == 403


def test_lifespan_passes() -> None:
    assert call(protected(), type="lifespan") == [{"type": "lifespan.startup.complete"}]


@given(st.lists(st.sampled_from(["a", "b", "*"]), max_size=4), st.lists(st.sampled_from(["a", "b", "c"]), max_size=4))
def test_a_pattern_matches_segment_by_segment(pattern: list[str], path: list[str]) -> None:
    asked = Request.http("GET", "/" + "/".join(path))
    matches = Route("/" + "/".join(pattern), authorize_id(FRONTEND)).matches(asked, websocket=True)
    same = len(pattern) == len(path) and all(want in ("*", seen) for want, seen in zip(pattern, path, strict=True))
    assert matches == same


def test_reading_the_peer() -> None:
    assert peer_spiffe_id({"extensions": {"spiffe": {"peer": FRONTEND}}}) == FRONTEND
    with pytest.raises(NoIdentityError, match="presented no certificate"):
        peer_spiffe_id({"extensions": {"spiffe": {"peer": None}}})
    with pytest.raises(CallerError, match="uvicorn"):
        peer_spiffe_id({})
