"""FastAPI through uvicorn, and on trio through Hypercorn: the peer as a dependency, an authorizer for each route."""

import json
import logging
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from integration_contract.hypercorn import TrioPair
from integration_contract.pair import Pair
from integration_contract.uvicorn import UvicornPair
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from authsec_sdk.authz import authorize_id, authorize_member_of, authorize_one_of
from authsec_sdk.errors import CallerError, InvalidAuthorizerError, SpiffeError
from authsec_sdk.integrations.asgi import PolicyMiddleware, Route, RouteAuthorizationMiddleware, TrustedFrontMiddleware
from authsec_sdk.integrations.fastapi import Client, Peer, add_mutual_tls, authorized
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.trusted_front import TrustedFronts
from authsec_sdk.policyfile import parse_policy
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import mtls_client_context

Row = Callable[[Pair], None]
FRONTEND, PAYMENTS = SpiffeID.parse("spiffe://example.org/frontend"), SpiffeID.parse("spiffe://example.org/payments")
ADMIN = SpiffeID.parse("spiffe://example.org/admin")
ONLY_ADMIN, ONLY_FRONTEND = authorize_id(ADMIN), authorize_id(FRONTEND)
MEMBERS = authorize_member_of("example.org")
FORBIDDEN = {"type": "about:blank", "title": "Forbidden", "status": 403}


def application(*, complete: bool = True, heard: list[Any] | None = None) -> FastAPI:
    app = FastAPI()
    hook = None if heard is None else lambda *refusal: heard.append(refusal)

    @app.get("/")
    async def who(peer: Peer) -> str:
        return str(peer)

    @app.get("/plain-function")
    def blocking(peer: Annotated[SpiffeID, Depends(authorized(ONLY_FRONTEND))]) -> str:
        return str(peer)

    @app.get("/admin")
    async def admin(peer: Annotated[SpiffeID, Depends(authorized(ONLY_ADMIN, on_refused=hook))]) -> str:
        return str(peer)

    @app.get("/client", dependencies=[Depends(authorized(MEMBERS))])
    async def client(client: Client) -> list[str]:
        return [str(client.spiffe_id), str(client.front)]

    @app.get("/admin-by-front", dependencies=[Depends(authorized(MEMBERS, forwarded=ONLY_ADMIN))])
    async def admin_by_front() -> str:
        return "yes"

    @app.get("/open")
    async def everybody() -> str:
        return "open"

    router = APIRouter(prefix="/router", dependencies=[Depends(authorized(authorize_one_of(FRONTEND, ADMIN)))])

    @router.get("/all")
    async def of_router() -> str:
        return "router"

    @router.get("/less", dependencies=[Depends(authorized(ONLY_ADMIN))])
    async def of_both() -> str:
        return "less"

    @router.websocket("/socket")
    async def greet(websocket: WebSocket, peer: Peer) -> None:
        await websocket.accept()
        await websocket.send_text(str(peer))
        await websocket.close()

    @router.websocket("/admin-socket")
    async def admin_socket(websocket: WebSocket, _peer: Annotated[SpiffeID, Depends(authorized(ONLY_ADMIN))]) -> None:
        await websocket.accept()

    app.include_router(router)
    if complete:
        add_mutual_tls(app)
    return app


def as_peer(app: Any, peer: SpiffeID | None, **more: Any) -> TestClient:
    """Return a client without network, whose peer a server would have verified."""

    async def told(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope["extensions"] = {**scope.get("extensions", {}), "spiffe": {"peer": peer}}
        await app(scope, receive, send)

    return TestClient(told, **more)


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def pair(request: pytest.FixtureRequest) -> Pair:
    app = FastAPI()

    @app.get("/", response_class=PlainTextResponse)
    async def who(peer: Peer) -> str:
        return str(peer)

    if request.param == "trio":
        return TrioPair(app)
    return UvicornPair(app, lifespan="on", loop=request.param)


def test_server_contract(server_row: Row, pair: Pair) -> None:
    server_row(pair)


def test_rotation_under_load(load_row: Row, pair: Pair) -> None:
    load_row(pair)


def test_routes_and_routers(world: Any, serve: Any) -> None:
    expected = {"/": 200, "/plain-function": 200, "/admin": 403, "/open": 200, "/router/all": 200, "/router/less": 403}
    with serve(application()) as server:
        with mtls_client(world.frontend, authorize_id(PAYMENTS), base_url=server.url) as client:
            answers = {path: client.get(path) for path in expected}
    assert {path: answer.status_code for path, answer in answers.items()} == expected
    assert answers["/"].json() == answers["/plain-function"].json() == str(FRONTEND)
    for path in ("/admin", "/router/less"):
        assert answers[path].json() == FORBIDDEN
        assert answers[path].headers["content-type"] == "application/problem+json"


def test_websockets(world: Any, serve: Any) -> None:
    context = mtls_client_context(world.frontend, authorize_id(PAYMENTS))
    with serve(application()) as server:
        url = server.url.replace("https", "wss")
        with connect(f"{url}/router/socket", ssl=context, proxy=None) as websocket:
            assert websocket.recv(timeout=20) == str(FRONTEND)
        with pytest.raises(InvalidStatus) as refusal:
            connect(f"{url}/router/admin-socket", ssl=context, proxy=None)
    assert refusal.value.response.status_code == 403


def test_websockets_of_servers_that_have_no_room_for_an_answer() -> None:
    from starlette.websockets import WebSocketDisconnect

    async def without_extension(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"] = {"spiffe": {"peer": FRONTEND}}
        await application()(scope, receive, send)

    with pytest.raises(WebSocketDisconnect) as refusal:
        with TestClient(without_extension).websocket_connect("/router/admin-socket"):
            pass
    assert refusal.value.code == 1008


def test_the_operator_hears_the_reason_and_the_peer_does_not(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[SpiffeID | None, str, SpiffeError]] = []
    with caplog.at_level(logging.WARNING):
        answer = as_peer(application(heard=heard), FRONTEND).get("/admin")
    assert answer.status_code == 403
    assert "admin" not in answer.text
    assert str(ADMIN) in caplog.text
    assert str(FRONTEND) in caplog.text
    assert heard[0][:2] == (FRONTEND, "/admin")


@pytest.mark.parametrize("path", ["/", "/plain-function", "/admin", "/router/all", "/client"])
def test_nobody_is_refused(path: str) -> None:
    assert as_peer(application(), None).get(path).json() == FORBIDDEN
    assert TestClient(application()).get(path).json() == FORBIDDEN


def test_refusals_are_problem_documents_without_the_handler_too() -> None:
    answer = as_peer(application(complete=False), FRONTEND).get("/admin")
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert answer.json() == {"detail": "Forbidden"}


def test_the_openapi_document() -> None:
    document = application().openapi()
    scheme = document["components"]["securitySchemes"]["mutualTLS"]
    assert scheme["type"] == "mutualTLS"
    assert "scheme" not in scheme
    secured = {path for path, item in document["paths"].items() if "security" in item["get"]}
    assert secured == {"/", "/plain-function", "/admin", "/client", "/admin-by-front", "/router/all", "/router/less"}
    assert document["paths"]["/"]["get"]["security"] == [{"mutualTLS": []}]
    assert "application/problem+json" in document["paths"]["/admin"]["get"]["responses"]["403"]["content"]
    assert "403" not in document["paths"]["/open"]["get"]["responses"]
    app = application()
    assert app.openapi() == app.openapi()
    served = as_peer(app, FRONTEND).get("/openapi.json").json()
    assert served["components"]["securitySchemes"]["mutualTLS"]["type"] == "mutualTLS"


def test_clients_of_a_trusted_front() -> None:
    front = SpiffeID.parse("spiffe://example.org/front")
    app = TrustedFrontMiddleware(application(), TrustedFronts(PAYMENTS, [front]))

    def get(path: str, peer: SpiffeID, client: SpiffeID | None) -> Any:
        said = f"By={PAYMENTS};Hash={'ab' * 32};URI={client}"
        return as_peer(app, peer).get(path, headers={} if client is None else {"x-forwarded-client-cert": said}).json()

    assert get("/client", front, FRONTEND) == [str(FRONTEND), str(front)]
    assert get("/", front, FRONTEND) == str(front), "the peer stays the peer"
    assert get("/admin-by-front", front, ADMIN) == "yes"
    for peer, client in ((front, FRONTEND), (front, None), (FRONTEND, ADMIN), (ADMIN, None)):
        assert get("/admin-by-front", peer, client) == FORBIDDEN
    assert get("/client", FRONTEND, ADMIN) == FORBIDDEN
    assert as_peer(application(), FRONTEND).get("/client").json() == FORBIDDEN, "no middleware reads the header"


def test_a_policy_is_asked_about_the_request() -> None:
    app, seen = FastAPI(), []

    class ReadOnly:
        generation = 0
        authorizer = MEMBERS

        def authorize(self, peer: SpiffeID, request: Any) -> None:
            seen.append((str(peer), str(request)))
            if request.action != "GET":
                ONLY_ADMIN(peer)

    app.router.dependencies.append(Depends(authorized(ReadOnly())))

    @app.api_route("/things/{name}", methods=["GET", "DELETE"])
    async def thing(name: str) -> str:
        return name

    client = as_peer(app, FRONTEND)
    assert [client.get("/things/a").status_code, client.delete("/things/a").status_code] == [200, 403]
    assert seen[0] == (str(FRONTEND), "GET '/things/a'")


def under_a_prefix(*dependencies: Any) -> FastAPI:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer FastAPI deprecates it
        app = FastAPI(root_path="/api", dependencies=[Depends(each) for each in dependencies])

    @app.get("/admin")
    async def admin() -> str:
        return "yes"

    return app


def test_the_prefix_of_an_application_leads_round_no_rule() -> None:
    """FastAPI answers `/api/admin` and `/admin` alike where its `root_path` is `/api`."""
    rules = [
        {"name": "members", "allow": "example.org", "http": {"paths": "/**"}},
        {"name": "admin", "deny": str(FRONTEND), "http": {"paths": "/admin/**"}},
    ]
    policy = parse_policy(json.dumps({"version": 1, "rules": rules}).encode(), "json")
    inside = under_a_prefix()
    inside.add_middleware(PolicyMiddleware, policy=policy)
    for app in (inside, under_a_prefix(authorized(policy))):
        for path in ("/admin", "/api/admin"):
            assert as_peer(app, FRONTEND).get(path).status_code == 403, path
            assert as_peer(app, ADMIN).get(path).json() == "yes"
    with pytest.raises(CallerError, match="root_path"):
        PolicyMiddleware(under_a_prefix(), policy)
    with pytest.raises(CallerError, match="root_path"):
        RouteAuthorizationMiddleware(under_a_prefix(), [Route("/**", MEMBERS)])


@pytest.mark.parametrize("wrong", [None, "spiffe://example.org/frontend", SpiffeID])
def test_wrong_authorizers_are_refused_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidAuthorizerError):
        authorized(wrong)
    if wrong is not None:
        with pytest.raises(InvalidAuthorizerError):
            authorized(MEMBERS, forwarded=wrong)
