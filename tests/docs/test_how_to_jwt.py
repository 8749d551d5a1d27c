"""The page about JWT-SVIDs: each block does what the page says, against an agent."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from authsec_sdk.integrations.jwt_httpx import JWTSVIDAuth
from authsec_sdk.spiffe import BundleSet
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import JWTSource

ROOT = Path(__file__).resolve().parents[2]
FRONTEND = "spiffe://example.org/frontend"
SEND, CHECK, CLIENT, SERVICE, OIDC, OAUTH, IN_TESTS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs/how-to/jwt.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_send(fake_workload_api: FakeWorkloadAPI) -> None:
    env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": fake_workload_api.address, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SEND], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "spiffe://example.org/workload calls payments with 1 header\n", done.stderr


def test_check(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    names: dict[str, Any] = {}
    exec(CHECK, names)
    caller, ca = names["caller"], spiffe_ca.tokens
    with JWTSource(fake_workload_api.address) as source:
        assert caller(source, f"Bearer {ca.jwt_token('/frontend', ['payments'])}").path == "/frontend"
        for header, why in (
            ("Basic abc", "Bearer"),
            ("Bearer abc", "Malformed"),
            (f"Bearer {ca.jwt_token('/frontend', ['other'])}", "AudMismatch"),
            (f"Bearer {ca.jwt_token('/frontend', ['payments'], ttl=timedelta(hours=-1))}", "Expired"),
            (f"Bearer {ca.jwt_token('/intruder', ['payments'])}", "not allowed here"),
            (f"Bearer {TestCA('other.test').tokens.jwt_token('/frontend', ['payments'])}", "not allowed here"),
        ):
            with pytest.raises(PermissionError, match=why):
                caller(source, header)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_httpx_and_asgi(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    fake_workload_api.issue(spiffe_ca, "/frontend")
    names: dict[str, Any] = {}
    exec(SERVICE, names)
    async with JWTSource(fake_workload_api.address) as source:
        transport = httpx.ASGITransport(app=names["protected"](source))
        async with httpx.AsyncClient(transport=transport, base_url="https://payments.example.org") as client:
            assert (await client.get("/")).status_code == 401
            answer = await client.get("/", auth=JWTSVIDAuth(source, "payments", subject=FRONTEND))
            assert answer.text == f"hello {FRONTEND}"


def test_client(fake_workload_api: FakeWorkloadAPI) -> None:
    env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": fake_workload_api.address, "PYTHONPATH": str(ROOT)}
    code = CLIENT.replace("payments.example.org", "127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "payments is not there\n", done.stderr


def test_in_tests() -> None:
    exec(IN_TESTS, {})


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_oauth(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA, capsys: pytest.CaptureFixture[str]) -> None:
    """The block as it is, but for the network: an authorization server and a service stand in its place."""
    fake_workload_api.issue(spiffe_ca, "/frontend")
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.url.host} {request.headers.get('authorization')}")
        return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 300})

    class Client(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(transport=httpx.MockTransport(answer), **options)

    names: dict[str, Any] = {}
    exec(OAUTH, names)
    names["JWTSource"] = lambda: JWTSource(fake_workload_api.address)
    names["httpx"] = SimpleNamespace(AsyncClient=Client)
    await names["main"]()
    assert seen == ["as.example.org None", "orders.example.org Bearer t"]
    assert capsys.readouterr().out == "200\n"


def test_oidc(spiffe_ca: TestCA) -> None:
    names: dict[str, Any] = {}
    exec(OIDC, names)
    followed = names["keys"]()
    assert "oidc.example.org" in followed.status.endpoints[0].url
    followed.close()
    token = spiffe_ca.tokens.jwt_token("/frontend", ["payments"])
    fetched = SimpleNamespace(jwt_bundles=BundleSet.of(spiffe_ca.tokens.jwt_bundle()))  # as if it had been there
    assert names["caller"](fetched, token) == FRONTEND
