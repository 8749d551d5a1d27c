"""The pages and examples of aiohttp, requests, urllib3 and websockets: each client against each kind of server."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[2]
FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Agents = tuple[FakeWorkloadAPI, FakeWorkloadAPI]


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    ca = TestCA("example.org")
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(ca, "/frontend")
        payments.issue(ca, "/payments")
        yield frontend, payments


def blocks(name: str) -> list[str]:
    return _BLOCK.findall((ROOT / f"docs/integrations/{name}.md").read_text())


def started(code: list[str], agent: FakeWorkloadAPI) -> "subprocess.Popen[str]":
    env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *code], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@contextmanager
def serving(code: list[str], agent: FakeWorkloadAPI, port: int) -> Iterator[None]:
    with started(code, agent) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, process.communicate()[0]
                    assert time.monotonic() < deadline, "not listening in time"
                    time.sleep(0.05)
            yield
        finally:
            process.kill()


def said(code: list[str], agent: FakeWorkloadAPI) -> str:
    with started(code, agent) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    return output


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free: int = probe.getsockname()[1]
        return free


def example(name: str, *arguments: object) -> list[str]:
    return [str(ROOT / f"examples/{name}.py"), *map(str, arguments)]


@pytest.mark.parametrize(
    ("name", "answer"), [("aiohttp", f"{PAYMENTS} 200\n"), ("websockets", f"{PAYMENTS} hello {FRONTEND}\n")]
)
def test_page_with_server_and_client(agents: Agents, port: int, name: str, answer: str) -> None:
    server, client = (code.replace("8443", str(port)) for code in blocks(name))
    with serving(["-c", server], agents[1], port):
        assert said(["-c", client], agents[0]) == answer


def test_pages_with_a_client_and_examples(agents: Agents, port: int) -> None:
    url = f"https://127.0.0.1:{port}/"
    with serving(example("aiohttp_server", port, FRONTEND), agents[1], port):
        for name in ("requests", "urllib3"):
            [client] = blocks(name)
            assert said(["-c", client.replace("8443", str(port))], agents[0]) == f"{PAYMENTS} 200\n"
        for name in ("aiohttp", "requests", "urllib3"):
            called = said(example(f"{name}_client", url, PAYMENTS), agents[0])
            assert called == f"{FRONTEND} called {PAYMENTS}: 200\n"


def test_websockets_examples(agents: Agents, port: int) -> None:
    with serving(example("websockets_server", port, FRONTEND), agents[1], port):
        answer = said(example("websockets_client", f"wss://127.0.0.1:{port}", PAYMENTS), agents[0])
    assert answer == f"{PAYMENTS} says: 'hello {FRONTEND}'\n"
