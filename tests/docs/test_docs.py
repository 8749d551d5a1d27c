"""Code in the documentation runs, links lead somewhere, and the examples do what their first line says."""

import os
import re
import shutil
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
import pytest

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Return (the rest of the fence's line, the code) of a page's blocks in a language."""
    return [(title.strip(), code) for kind, title, code in _BLOCK.findall(page.read_text()) if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_documentation_compiles(page: Path) -> None:
    for _, code in blocks(page, "python"):
        compile(code, str(page), "exec")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="doc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def agents() -> Iterator[tuple[FakeWorkloadAPI, FakeWorkloadAPI]]:
    """The agents of ``frontend`` and of ``payments``, of one trust domain."""
    ca = TestCA("example.org")
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(ca, "/frontend")
        payments.issue(ca, "/payments")
        yield frontend, payments


@contextmanager
def python(code: list[str], agent: FakeWorkloadAPI) -> Iterator[subprocess.Popen[str]]:
    """Run Python as a workload of an agent."""
    env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, *code], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_listening(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    process.kill()
    pytest.fail(f"not listening: {process.communicate()[0]}")


def said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    return output


FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"
CLIENT_PAGES = {"README.md": f"{FRONTEND} 200", "docs/integrations/httpx.md": f"{PAYMENTS} 200"}
SERVER_PAGES = ["docs/integrations/uvicorn.md"]


@pytest.mark.parametrize("page", CLIENT_PAGES)
def test_client_in_the_documentation(page: str, agents: tuple[FakeWorkloadAPI, FakeWorkloadAPI]) -> None:
    frontend, payments = agents
    port = free_port()
    [(_, code)] = blocks(ROOT / page, "python")
    with python([str(ROOT / "examples/uvicorn_server.py"), str(port), FRONTEND], payments) as server:
        until_listening(port, server)
        with python(["-c", code.replace("8443", str(port))], frontend) as client:
            assert CLIENT_PAGES[page] in said(client)


@pytest.mark.parametrize("page", SERVER_PAGES)
def test_server_in_the_documentation(page: str, agents: tuple[FakeWorkloadAPI, FakeWorkloadAPI]) -> None:
    frontend, payments = agents
    port = free_port()
    [(_, code)] = blocks(ROOT / page, "python")
    with python(["-c", code.replace("8443", str(port))], payments) as server:
        until_listening(port, server)
        url = f"https://127.0.0.1:{port}/"
        with python([str(ROOT / "examples/httpx_client.py"), url, PAYMENTS], frontend) as client:
            assert f"{FRONTEND} called {PAYMENTS}: 200" in said(client)


def test_asgi_in_the_documentation() -> None:
    [(_, code)] = blocks(ROOT / "docs/integrations/asgi.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    sent: list[dict[str, Any]] = []

    async def call(path: str, method: str) -> int:
        sent.clear()
        scope = {"type": "http", "path": path, "method": method}
        scope["extensions"] = {"spiffe": {"peer": SpiffeID.parse(FRONTEND)}}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await names["protected"](scope, None, send)
        return int(sent[0]["status"])

    answers = [anyio.run(call, *request) for request in (("/pay", "POST"), ("/pay", "GET"), ("/health", "GET"))]
    assert answers == [200, 403, 200]


def test_examples_are_short_and_compile() -> None:
    for example in (ROOT / "examples").glob("*.py"):
        text = example.read_text()
        compile(text, str(example), "exec")
        assert len(text.splitlines()) <= 60, example


def test_routes_example(agents: tuple[FakeWorkloadAPI, FakeWorkloadAPI]) -> None:
    frontend, payments = agents
    port = free_port()
    with python([str(ROOT / "examples/asgi_routes.py"), str(port), "example.org"], payments) as server:
        until_listening(port, server)
        for path, status in (("/", 200), ("/admin/x", 403)):
            url = f"https://127.0.0.1:{port}{path}"
            with python([str(ROOT / "examples/httpx_client.py"), url, PAYMENTS], frontend) as client:
                assert f": {status}" in said(client)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.timeout(180)
def test_tutorial(folder: Path) -> None:
    page = ROOT / "docs" / "tutorial.md"
    ports = {"18081": str(free_port()), "18443": str(free_port())}

    def own_ports(text: str) -> str:
        for documented, free in ports.items():
            text = text.replace(documented, free)
        return text

    for title, code in blocks(page, "python"):
        (folder / title.removeprefix("title=")).write_text(own_ports(code))
    script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    script += "\n".join(own_ports(code) for _, code in blocks(page, "sh"))
    # A reader sees that what a loop waits for has ended; here the loop sees it.
    script, loops = re.subn(r"^(until .*; do) ", r"\1 kill -0 $! || exit 1; ", script, flags=re.MULTILINE)
    assert loops == 3
    env = {"PATH": os.environ["PATH"], "AUTHSEC_CLONE": str(folder / "clone"), "HOME": str(folder)}
    (folder / "clone").mkdir()
    (folder / "clone" / ".venv").symlink_to(Path(sys.executable).parents[1])
    for package in ("authsec_sdk", "icp_server", "icp_agent", "icp_common"):
        (folder / "clone" / package).symlink_to(ROOT / package)
    command = ["timeout", "--kill-after=5", "120", "bash", "-c", script]  # which ends what the script started, too
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=150, check=False)
    logs = "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    assert "paid, spiffe://example.org/frontend" in done.stdout
