"""Django on WSGI and on ASGI: the peer, one authorizer for all and one for a view, settings that are checked."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
import httpx
import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from integration_contract.pair import Pair
from integration_contract.uvicorn import UvicornPair
from integration_contract.wsgiref import WsgirefPair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import InvalidAuthorizerError, SpiffeError
from authsec_sdk.integrations.asgi import TrustedFrontMiddleware
from authsec_sdk.integrations.django import SpiffeMiddleware, authorize_peer
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.trusted_front import TrustedFronts
from authsec_sdk.integrations.wsgi import TrustedFrontMiddleware as WSGIFrontMiddleware
from authsec_sdk.policyfile import parse_policy
from authsec_sdk.spiffe import SpiffeID

Row = Callable[[Pair], None]
FRONT, PAYMENTS = SpiffeID.parse("spiffe://example.org/front"), SpiffeID.parse("spiffe://example.org/payments")
FRONTEND, ADMIN = SpiffeID.parse("spiffe://example.org/frontend"), SpiffeID.parse("spiffe://example.org/admin")
MEMBERS, ONLY_ADMIN = authorize_member_of("example.org"), authorize_id(ADMIN)
FRONTS = TrustedFronts(PAYMENTS, [FRONT])
SAID = f"By={PAYMENTS};Hash={'ab' * 32};URI={ADMIN}"
FORBIDDEN = {"type": "about:blank", "title": "Forbidden", "status": 403}
MIDDLEWARE = "authsec_sdk.integrations.django.SpiffeMiddleware"


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.spiffe_peer), content_type="text/plain")


def tells(request: HttpRequest) -> HttpResponse:
    names = (*request.META, *request.headers)
    seen = [name for name in names if "forwarded-client" in name.lower().replace("_", "-")]
    client = request.spiffe_client
    return JsonResponse({"peer": str(request.spiffe_peer), "client": client and str(client.spiffe_id), "seen": seen})


@authorize_peer(ONLY_ADMIN)
def admin(request: HttpRequest) -> HttpResponse:
    return who(request)


@authorize_peer(ONLY_ADMIN)
async def admin_async(request: HttpRequest) -> HttpResponse:
    return who(request)


@authorize_peer(MEMBERS)
async def members_async(request: HttpRequest) -> HttpResponse:
    return who(request)


@method_decorator(authorize_peer(ONLY_ADMIN), name="dispatch")
class AdminClass(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return who(request)


@authorize_peer(MEMBERS, forwarded=ONLY_ADMIN)
def by_front(request: HttpRequest) -> HttpResponse:
    return who(request)


urlpatterns = [
    path("", who),
    path("tells", tells),
    path("admin", admin),
    path("admin-async", admin_async),
    path("admin-class", AdminClass.as_view()),
    path("members-async", members_async),
    path("by-front", by_front),
]

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "testserver"],
        INSTALLED_APPS=["authsec_sdk.integrations.django.SpiffeConfig"],
        MIDDLEWARE=[MIDDLEWARE],
        ROOT_URLCONF=__name__,
        SECRET_KEY="for tests",
        SPIFFE_AUTHORIZER=MEMBERS,
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()


@pytest.fixture(params=["wsgi", "asgi"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair_of(kind: str) -> Pair:
    return WsgirefPair(WSGIHandler()) if kind == "wsgi" else UvicornPair(ASGIHandler())


def test_server_contract(server_row: Row, kind: str) -> None:
    server_row(pair_of(kind))


def test_rotation_under_load(load_row: Row, kind: str) -> None:
    load_row(pair_of(kind))


@contextmanager
def client_of(world: Any, pair: Pair, path: str = "/frontend") -> Iterator[httpx.Client]:
    world.frontend.publish(world.context(world.ca.svid(path)))
    with pair.serve(world.payments, MEMBERS) as served:
        url = f"https://127.0.0.1:{served.port}"
        with mtls_client(world.frontend, authorize_id(PAYMENTS), base_url=url, timeout=30) as client:
            yield client


def test_views(world: Any, kind: str) -> None:
    with client_of(world, pair_of(kind)) as client:
        assert client.get("/").text == client.get("/members-async").text == str(FRONTEND)
        for name in ("/admin", "/admin-async", "/admin-class"):
            refused = client.get(name)
            assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
            assert refused.json() == FORBIDDEN
    with client_of(world, pair_of(kind), "/admin") as client:
        for name in ("/admin", "/admin-async", "/admin-class"):
            assert client.get(name).text == str(ADMIN)


def test_everybody_else_is_refused_before_any_view(world: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[SpiffeID | None, str, SpiffeError]] = []
    hook = lambda *refusal: heard.append(refusal)  # noqa: E731
    with override_settings(SPIFFE_AUTHORIZER=ONLY_ADMIN, SPIFFE_ON_REFUSED=hook):
        with caplog.at_level(logging.WARNING), client_of(world, pair_of(kind)) as client:
            assert client.get("/").json() == client.get("/there-is-no-such-view").json() == FORBIDDEN
    assert heard[0][:2] == (FRONTEND, "/")
    assert str(ADMIN) in caplog.text


def test_a_policy_is_asked_about_the_request(world: Any, kind: str) -> None:
    seen: list[str] = []

    class Listed:
        generation = 0
        authorizer = MEMBERS

        def authorize(self, peer: SpiffeID, request: Any) -> None:
            seen.append(str(request))
            if request.target != "/tells":
                ONLY_ADMIN(peer)

    with override_settings(SPIFFE_AUTHORIZER=Listed()), client_of(world, pair_of(kind)) as client:
        assert [client.get("/tells?a=b").status_code, client.get("/").status_code] == [200, 403]
        assert client.get("/x%2ftells").status_code == 403
    assert seen[:2] == ["GET '/tells'", "GET '/'"]
    assert "'/x/tells'" in seen[2]


def test_the_path_that_is_judged_is_the_one_that_is_resolved(world: Any, kind: str) -> None:
    """Django decodes PATH_INFO in place, and takes a prefix away that its settings or the server name."""
    rules = [
        {"name": "members", "allow": "example.org", "http": {"paths": "/**"}},
        {"name": "secret", "deny": str(FRONTEND), "http": {"paths": ["/tells/**", "/geheim-é/**", "/秘密/**"]}},
    ]
    policy = parse_policy(json.dumps({"version": 1, "rules": rules}).encode(), "json")
    with override_settings(SPIFFE_AUTHORIZER=policy, FORCE_SCRIPT_NAME="/api"):
        with client_of(world, pair_of(kind)) as client:
            for path in ("/tells", "/geheim-é", "/geheim-é/a", "/秘密", "/秘密/"):
                assert client.get(path).json() == FORBIDDEN, path
            assert client.get("/api/tells").status_code == (404 if kind == "wsgi" else 403)
            assert client.get("/").text == str(FRONTEND)


# --- trusted fronts ------------------------------------------------------------------------------------------------


def test_clients_of_a_trusted_front(world: Any, kind: str) -> None:
    real, forged = ("x-forwarded-client-cert", SAID), ("X_Forwarded_Client_Cert", SAID)
    by_front = {"peer": str(FRONT), "client": str(ADMIN), "seen": []}
    with override_settings(SPIFFE_TRUSTED_FRONTS=FRONTS):
        with client_of(world, pair_of(kind), "/front") as client:
            assert client.get("/tells", headers=[real]).json() == by_front
            assert client.get("/by-front", headers=[real]).text == str(FRONT)
            assert client.get("/by-front").json() == FORBIDDEN
            for headers in ([forged], [forged, real], [real, forged], [real, real]):
                assert client.get("/tells", headers=headers).json() == FORBIDDEN
        with client_of(world, pair_of(kind), "/frontend") as client:
            for headers in ([real], [forged], [real, real]):
                told = client.get("/tells", headers=headers).json()
                assert told == {"peer": str(FRONTEND), "client": None, "seen": []}
            assert client.get("/by-front", headers=[real]).json() == FORBIDDEN


def test_without_fronts_the_header_never_reaches_a_view(world: Any, kind: str) -> None:
    with client_of(world, pair_of(kind), "/front") as client:
        told = client.get("/tells", headers={"x-forwarded-client-cert": SAID}).json()
    assert told == {"peer": str(FRONT), "client": None, "seen": []}


@pytest.mark.parametrize("outside", [True, False])
def test_what_a_middleware_outside_of_django_read_is_used(world: Any, kind: str, outside: bool) -> None:
    wrapped: Any = (
        WsgirefPair(WSGIFrontMiddleware(WSGIHandler(), FRONTS))
        if kind == "wsgi"
        else UvicornPair(TrustedFrontMiddleware(ASGIHandler(), FRONTS))
    )
    with override_settings(SPIFFE_TRUSTED_FRONTS=FRONTS if outside else None):
        with client_of(world, wrapped, "/front") as client:
            told = client.get("/tells", headers={"x-forwarded-client-cert": SAID}).json()
    assert told == {"peer": str(FRONT), "client": str(ADMIN), "seen": []}


def test_all_clients_of_the_front_by_one_setting(world: Any, kind: str) -> None:
    with override_settings(SPIFFE_TRUSTED_FRONTS=FRONTS, SPIFFE_FORWARDED_AUTHORIZER=ONLY_ADMIN):
        with client_of(world, pair_of(kind), "/front") as client:
            assert client.get("/", headers={"x-forwarded-client-cert": SAID}).text == str(FRONT)
            assert client.get("/").json() == FORBIDDEN


# --- no peer, and wrong settings -------------------------------------------------------------------------------------


def test_a_server_that_tells_of_no_peer_serves_nobody() -> None:
    from django.test import AsyncClient, Client

    for headers in ({}, {"x-forwarded-client-cert": SAID}, {"ssl-client-cert": "x"}):
        assert Client(headers=headers).get("/").json() == FORBIDDEN

    async def ask() -> Any:
        return await AsyncClient().get("/")

    import anyio

    assert json.loads(anyio.run(ask).content) == FORBIDDEN


def test_a_view_without_the_middleware_fails_loudly() -> None:
    with pytest.raises(ImproperlyConfigured, match="SpiffeMiddleware"):
        admin(HttpRequest())


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"SPIFFE_AUTHORIZER": None}, "SPIFFE_AUTHORIZER"),
    ({"SPIFFE_AUTHORIZER": "spiffe://example.org/frontend"}, "SPIFFE_AUTHORIZER"),
    ({"SPIFFE_TRUSTED_FRONTS": ["spiffe://example.org/front"]}, "no TrustedFronts"),
    ({"SPIFFE_FORWARDED_AUTHORIZER": MEMBERS}, "without SPIFFE_TRUSTED_FRONTS"),
    ({"SPIFFE_FORWARDED_AUTHORIZER": "x", "SPIFFE_TRUSTED_FRONTS": FRONTS}, "SPIFFE_FORWARDED_AUTHORIZER: "),
    ({"SPIFFE_ON_REFUSED": "print"}, "not callable"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_wrong_settings_stop_django_and_are_found_by_its_checks(wrong: dict[str, Any], said: str) -> None:
    with override_settings(**wrong):
        with pytest.raises(ImproperlyConfigured, match=said):
            SpiffeMiddleware(lambda _request: None)
        [message] = [found for found in run_checks() if found.id.startswith("spiffe.")]
        assert (message.id, said in message.msg, message.is_serious()) == ("spiffe.E001", True, True)


def test_the_checks_are_content_with_what_is_right_and_name_the_rest() -> None:
    def found(**changed: Any) -> list[str]:
        with override_settings(**changed):
            return [message.id for message in run_checks() if message.id.startswith("spiffe.")]

    assert found() == []
    assert found(MIDDLEWARE=[]) == ["spiffe.E002"]
    assert found(MIDDLEWARE=["django.middleware.common.CommonMiddleware", MIDDLEWARE]) == ["spiffe.W001"]
    assert found(SPIFFE_AUTHORISER=MEMBERS) == ["spiffe.W002"]


def test_wrong_authorizers_of_views_are_refused_at_once() -> None:
    for wrong in (None, "spiffe://example.org/frontend", SpiffeID):
        with pytest.raises(InvalidAuthorizerError):
            authorize_peer(wrong)  # type: ignore[arg-type]
