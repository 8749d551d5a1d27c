"""The pages and examples of FastAPI, Starlette, WSGI, Django and trusted fronts run as they stand."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.spiffe import BundleSet, SpiffeID, X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from tests.envoy import cluster, envoy, http_listener, tls_context

ROOT = Path(__file__).resolve().parents[2]
FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"
FRONT = "spiffe://example.org/front"
_BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = f"By={PAYMENTS};Hash={'ab' * 32};URI={FRONTEND}"


def blocks(name: str) -> dict[str, str]:
    """Return the Python of a page by title."""
    text = (ROOT / f"docs/integrations/{name}.md").read_text()
    return {title.strip().removeprefix("title="): code for title, code in _BLOCK.findall(text)}


class Workloads:
    """payments, which an agent serves, and calls of others to it."""

    def __init__(self, agent: FakeWorkloadAPI, port: int) -> None:
        self.ca = TestCA("example.org")
        self.agent, self.port = agent, port
        agent.issue(self.ca, "/payments")

    @contextmanager
    def serving(self, *command: str, folder: Path = ROOT) -> Iterator[None]:
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{folder}:{ROOT}",
            "SPIFFE_ENDPOINT_SOCKET": self.agent.address,
            "DJANGO_SETTINGS_MODULE": "settings",
        }
        with subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                deadline = time.monotonic() + 30
                while True:
                    try:
                        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                        break
                    except OSError:
                        assert process.poll() is None, process.communicate()[0]
                        assert time.monotonic() < deadline, "not listening in time"
                        time.sleep(0.05)
                yield
            finally:
                process.terminate()
                process.communicate(timeout=30)

    @contextmanager
    def client(self, path: str, port: int | None = None) -> Iterator[httpx.Client]:
        bundles = BundleSet.of(self.ca.bundle())
        source = X509ContextHolder(X509Context(svids=(self.ca.svid(path),), bundles=bundles))
        url = f"https://127.0.0.1:{port or self.port}"
        with mtls_client(source, authorize_id(PAYMENTS), base_url=url, timeout=30) as client:
            yield client

    def get(self, path: str, *urls: str) -> list[str]:
        """Return the answers that a workload gets; the status of refusals."""
        with self.client(path) as client:
            answers = [client.get(url) for url in urls]
        return [answer.text.strip('"\n') if answer.is_success else str(answer.status_code) for answer in answers]


@pytest.fixture
def workloads() -> Iterator[Workloads]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with FakeWorkloadAPI() as agent:
        yield Workloads(agent, port)


def test_fastapi_page(workloads: Workloads) -> None:
    with workloads.serving("-c", blocks("fastapi")[""].replace("8443", str(workloads.port))):
        with workloads.client("/frontend") as client:
            assert client.get("/").json() == f"hello {FRONTEND}"
            assert client.post("/pay").json() == f"paid by {FRONTEND}"
            assert client.get("/admin/state").status_code == 403
            document = client.get("/openapi.json").json()
        assert document["components"]["securitySchemes"]["mutualTLS"]["type"] == "mutualTLS"
        assert workloads.get("/admin", "/admin/state") == ["fine"]


def test_starlette_on_the_fastapi_page() -> None:
    names: dict[str, Any] = {}
    exec(blocks("fastapi")["starlette"], names)
    answers = [asked(names["app"], FRONTEND, path)[0] for path in ("/", "/admin/who")]
    assert answers == [200, 403]
    assert asked(names["app"], "spiffe://example.org/admin", "/admin/who")[0] == 200


def asked(app: Any, peer: str, path: str, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """Call an ASGI application without network."""
    sent: list[Any] = []
    scope = {"type": "http", "method": "GET", "path": path, "headers": list(headers), "query_string": b""}
    scope["extensions"] = {"spiffe": {"peer": SpiffeID.parse(peer)}}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


def written(folder: Path, page: str, port: int) -> Path:
    for name, code in blocks(page).items():
        (folder / name).write_text(code.replace("8443", str(port)))
    return folder


@pytest.mark.parametrize("server", [("server.py",), ("-m", "gunicorn", "-k", "gthread", "app:app")], ids="".join)
def test_wsgi_page(workloads: Workloads, tmp_path: Path, server: tuple[str, ...]) -> None:
    command = server if server[0] != "-m" else (*server, "-b", f"127.0.0.1:{workloads.port}")
    with workloads.serving(*command, folder=written(tmp_path, "wsgi", workloads.port)):
        assert workloads.get("/frontend", "/", "/admin/x") == [f"hello {FRONTEND}", "403"]


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_django_page(workloads: Workloads, tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path, "django", workloads.port)
    check = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{ROOT}", "DJANGO_SETTINGS_MODULE": "settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert check.returncode == 0, check.stderr
    if kind == "wsgi":
        written(tmp_path, "wsgi", workloads.port)
        (tmp_path / "app.py").write_text(
            "from django.core.wsgi import get_wsgi_application\n\napp = get_wsgi_application()\n"
        )
        command = ["server.py"]
    else:
        page = blocks("fastapi")[""].replace("8443", str(workloads.port))
        begin = "import django\nfrom django.core.asgi import get_asgi_application\n"
        command = [
            "-c",
            begin
            + page.replace("serve(app, ", "serve(get_asgi_application(), ").replace("port=", "lifespan='off', port="),
        ]
    with workloads.serving(*command, folder=folder):
        assert workloads.get("/frontend", "/", "/admin") == [f"hello {FRONTEND}", "403"]
        assert workloads.get("/admin", "/admin") == ["at your service, spiffe://example.org/admin"]


def test_trusted_front_page() -> None:
    names: dict[str, Any] = {}
    exec(blocks("trusted-front")[""], names)
    header = (b"x-forwarded-client-cert", SAID.encode())
    assert asked(names["app"], FRONT, "/", header) == (200, f"hello {FRONTEND}, by way of {FRONT}".encode())
    assert asked(names["app"], FRONTEND, "/", header)[0] == 403
    assert asked(names["app"], FRONT, "/", header, (b"x_forwarded_client_cert", b"x"))[0] == 403


@pytest.mark.parametrize("name", ["fastapi", "wsgi", "django"])
def test_examples(workloads: Workloads, name: str) -> None:
    path = {"fastapi": "/admin", "wsgi": "/admin/x", "django": "/admin/x"}[name]
    with workloads.serving(str(ROOT / f"examples/{name}_server.py"), str(workloads.port), "example.org"):
        assert workloads.get("/frontend", "/", path) == [f"hello {FRONTEND}", "403"]
        assert "spiffe://example.org/admin/a" in workloads.get("/admin/a", path)[0]


def test_trusted_front_example_behind_envoy(workloads: Workloads) -> None:
    """Envoy set as the page says."""
    page = (ROOT / "docs/integrations/trusted-front.md").read_text()
    assert "forward_client_cert_details: SANITIZE_SET\nset_current_client_cert_details: {uri: true}\n" in page
    details = {"forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"uri": True}}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        front = probe.getsockname()[1]
    ca = workloads.ca
    down = tls_context(ca.svid("/payments"), ca.bundle(), server=True)
    up = tls_context(ca.svid("/front"), ca.bundle(), server=False, ids=(PAYMENTS,))
    config = {
        "static_resources": {
            "listeners": [http_listener(front, "payments", down, **details)],
            "clusters": [cluster("payments", workloads.port, up)],
        }
    }
    command = (str(ROOT / "examples/trusted_front.py"), str(workloads.port), PAYMENTS, FRONT)
    with tempfile.TemporaryDirectory(prefix="envoy-", dir="/tmp") as folder, workloads.serving(*command):
        with envoy(config, Path(folder)), workloads.client("/frontend", front) as client:
            assert client.get("/").text == f"hello {FRONTEND}, by way of {FRONT}\n"
        with workloads.client("/frontend") as client, pytest.raises(httpx.TransportError):
            client.get("/", headers={"x-forwarded-client-cert": SAID})
