"""httpx sending JWT-SVIDs: in threads, on asyncio and on trio, and never where others could read them."""

from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError, NotReadyError, UnavailableError
from authsec_sdk.integrations.httpx import InsecureURLError, mtls_async_client, mtls_client
from authsec_sdk.integrations.jwt_asgi import JWTBearerMiddleware, token_identity
from authsec_sdk.integrations.jwt_httpx import JWTSVIDAuth
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.workloadapi import JWTSource


@pytest.fixture
def sources(world: Any) -> Iterator[tuple[JWTSource, JWTSource]]:
    """The tokens of `frontend`, and the keys of `payments`."""
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(world.ca, "/frontend")
        payments.issue(world.ca, "/payments")
        with JWTSource(frontend.address) as ours, JWTSource(payments.address) as theirs:
            yield ours, theirs


async def caller(scope: Any, receive: Any, send: Any) -> None:
    body = str(token_identity(scope).spiffe_id).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def guarded(keys: JWTSource, world: Any) -> JWTBearerMiddleware:
    return JWTBearerMiddleware(caller, keys, ["payments"], authorize_id(world.frontend_id))


def test_in_threads(world: Any, serve: Any, sources: Any) -> None:
    ours, keys = sources
    payments = authorize_id(world.payments_id)
    with serve(guarded(keys, world)) as server:
        with mtls_client(world.frontend, payments, auth=JWTSVIDAuth(ours, "payments")) as client:
            assert [client.get(server.url).text for _ in range(2)] == [str(world.frontend_id)] * 2
        with mtls_client(world.frontend, payments, auth=JWTSVIDAuth(ours, "orders")) as client:
            assert client.get(server.url).status_code == 401
        with mtls_client(world.frontend, payments) as client:
            assert client.get(server.url).status_code == 401


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_event_loops(world: Any, serve: Any, sources: Any, backend: str) -> None:
    ours, keys = sources

    async def ask(url: str) -> str:
        auth = JWTSVIDAuth(ours, "payments", subject="spiffe://example.org/frontend")
        async with mtls_async_client(world.frontend, authorize_id(world.payments_id), auth=auth) as client:
            return (await client.get(url)).text

    with serve(guarded(keys, world)) as server:
        assert anyio.run(ask, server.url, backend=backend) == str(world.frontend_id)


@pytest.mark.parametrize("url", ["http://payments.internal/", "http://127.0.0.1:9/"])
def test_no_token_leaves_without_tls(sources: Any, url: str) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            await client.get(url, auth=JWTSVIDAuth(sources[0], "payments"))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client, pytest.raises(InsecureURLError, match="token"):
        client.get(url, auth=JWTSVIDAuth(sources[0], "payments"))
    with pytest.raises(InsecureURLError):
        anyio.run(ask)
    assert sent == []


@pytest.mark.parametrize("elsewhere", ["https://other.internal/", "http://payments.internal/"])
def test_a_redirect_does_not_take_the_token_along(sources: Any, elsewhere: str) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200) if len(sent) > 1 else httpx.Response(307, headers={"location": elsewhere})

    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
        client.get("https://payments.internal/", auth=JWTSVIDAuth(sources[0], "payments"))
    assert ["authorization" in request.headers for request in sent] == [True, False]


def test_one_audience(sources: Any) -> None:
    for wrong in ("", None, ["payments"]):
        with pytest.raises(CallerError, match="audience"):
            JWTSVIDAuth(sources[0], wrong)  # type: ignore[arg-type]


def test_without_a_token_nothing_is_sent() -> None:
    source = JWTSource("unix:///nowhere/agent.sock")

    class Impatient:
        """Waits less long than `JWTSource` does by itself."""

        async def fetch_svid(self, audience: Any, *, subject: Any = None) -> Any:
            return await source.fetch_svid(audience, subject=subject, timeout=0.1)

        def wait_svid(self, audience: Any, *, subject: Any = None) -> Any:
            return source.wait_svid(audience, subject=subject, timeout=0.1)

    try:
        with httpx.Client() as client, pytest.raises((NotReadyError, UnavailableError), match="agent"):
            client.get("https://127.0.0.1:9/", auth=JWTSVIDAuth(Impatient(), "payments"))
    finally:
        source.close()
