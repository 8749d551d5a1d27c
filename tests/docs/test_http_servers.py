"""The pages and examples of HTTP servers and worker processes: each runs, and serves who it says."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.jwt_httpx import JWTSVIDAuth
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import JWTSource, X509Source

ROOT = Path(__file__).resolve().parents[2]
FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Agents = tuple[FakeWorkloadAPI, FakeWorkloadAPI]


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    ca = TestCA("example.org")
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(ca, "/frontend")
        payments.issue(ca, "/payments")
        yield frontend, payments


def blocks(page: str, language: str = "python") -> list[str]:
    return [code for kind, code in _BLOCK.findall((ROOT / "docs" / page).read_text()) if kind == language]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(command: list[str], folder: Path, agent: FakeWorkloadAPI, port: int) -> Iterator[None]:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "SPIFFE_ENDPOINT_SOCKET": agent.address,
        "PYTHONPATH": f"{ROOT}:{folder}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=env, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait()


def answer(agents: Agents, port: int, **options: bool) -> httpx.Response:
    with X509Source(agents[0].address) as source:
        with mtls_client(source, authorize_id(PAYMENTS), timeout=30, **options) as client:
            return client.get(f"https://127.0.0.1:{port}/")


def test_worker_processes(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    [code] = blocks("how-to/workers.md")
    (tmp_path / "main.py").write_text(code.replace("8443", str(port)))
    with serving(["main.py"], tmp_path, agents[1], port):
        assert answer(agents, port).text == f"hello {FRONTEND}"


def test_the_command_line_on_the_page_of_uvicorn(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    [command] = blocks("integrations/uvicorn.md", "sh")
    [page] = blocks("integrations/uvicorn.md")
    (tmp_path / "app.py").write_text(page.partition("async def main")[0])
    words = command.replace("8443", str(port)).split()
    assert words.pop(0) == "authsec"
    with serving(["-m", "authsec_sdk.cli", *words], tmp_path, agents[1], port):
        assert answer(agents, port).text == f"hello {FRONTEND}"


def test_hypercorn(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    [code] = blocks("integrations/hypercorn.md")
    with serving(["-c", code.replace("8443", str(port))], tmp_path, agents[1], port):
        response = answer(agents, port, http2=True)
        assert (response.text, response.http_version) == (f"hello {FRONTEND}", "HTTP/2")


def test_gunicorn(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    config, main = blocks("integrations/gunicorn.md")
    (tmp_path / "gunicorn.conf.py").write_text(config.replace("8443", str(port)))
    (tmp_path / "main.py").write_text(main)
    with serving(["-m", "gunicorn", "main:app"], tmp_path, agents[1], port):
        assert answer(agents, port).text == f"hello {FRONTEND}"


def test_celery(agents: Agents, tmp_path: Path) -> None:
    """The task on the page, called as a function; what the pool does is tried with the real program elsewhere."""
    port = free_port()
    [code] = blocks("integrations/celery.md")
    with serving([str(ROOT / "examples/uvicorn_server.py"), str(port), FRONTEND], tmp_path, agents[1], port):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\nprint(pay('https://127.0.0.1:{port}/'))"],
            env={
                "PATH": os.environ["PATH"],
                "SPIFFE_ENDPOINT_SOCKET": agents[0].address,
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "200\n", done.stderr


@pytest.mark.parametrize("worker", ["asyncio", "trio"])
def test_the_example_of_hypercorn(agents: Agents, tmp_path: Path, worker: str) -> None:
    port = free_port()
    command = [str(ROOT / "examples/hypercorn_server.py"), str(port), FRONTEND, worker]
    with serving(command, tmp_path, agents[1], port):
        assert answer(agents, port, http2=True).text == f"hello {FRONTEND}\n"


def test_the_example_of_gunicorn(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    with serving([str(ROOT / "examples/gunicorn_server.py"), str(port), FRONTEND], tmp_path, agents[1], port):
        assert answer(agents, port).text == f"hello {FRONTEND}\n"


def test_the_example_of_tokens_behind_a_gateway(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    gateway = [str(ROOT / "examples/jwt_gateway.py"), str(port), FRONTEND, FRONTEND]
    with serving(gateway, tmp_path, agents[1], port):
        with X509Source(agents[0].address) as source, JWTSource(agents[0].address) as tokens:
            auth = JWTSVIDAuth(tokens, "payments")
            with mtls_client(source, authorize_id(PAYMENTS), auth=auth, timeout=30) as client:
                text = client.get(f"https://127.0.0.1:{port}/").text
    assert text == f"hello {FRONTEND}, by way of {FRONTEND}\n"
