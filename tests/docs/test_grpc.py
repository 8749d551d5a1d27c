"""The clients in the documentation and the examples for grpcio and grpclib run against the servers in the examples."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[2]
FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"


def start(code: list[str], agent: FakeWorkloadAPI) -> subprocess.Popen[str]:
    env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *code], env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(("name", "said_in_page"), [("grpc", "1"), ("grpclib", "SERVING")])
def test_examples_and_documentation(name: str, said_in_page: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ca = TestCA("example.org")
    page = (ROOT / f"docs/integrations/{name}.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(ca, "/frontend")
        payments.issue(ca, "/payments")
        with start([str(ROOT / f"examples/{name}_server.py"), str(port), FRONTEND], payments) as server:
            try:
                deadline = time.monotonic() + 30
                while not listening(port) and time.monotonic() < deadline:
                    assert server.poll() is None
                    time.sleep(0.05)
                target = f"127.0.0.1:{port}" if name == "grpc" else str(port)
                client = [str(ROOT / f"examples/{name}_client.py"), target, PAYMENTS]
                for run, said in (
                    (client, f"{FRONTEND} called {PAYMENTS}: SERVING"),
                    (["-c", code.replace("8443", str(port))], f"{PAYMENTS} {said_in_page}"),
                ):
                    with start(run, frontend) as process:
                        output, _ = process.communicate(timeout=30)
                        assert said in output
            finally:
                server.kill()
