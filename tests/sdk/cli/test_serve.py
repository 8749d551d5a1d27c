"""``authsec serve``: an application that knows nothing of TLS, served to those who may; and what goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.cli import main
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[3]
FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"
APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    peer = scope["extensions"]["spiffe"]["peer"]
    chain = len(scope["extensions"]["tls"]["client_cert_chain"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{peer} {chain}".encode()})

def make():
    return app
"""


@pytest.fixture
def ca() -> TestCA:
    return TestCA("example.org")


@pytest.fixture
def agent(ca: TestCA) -> Iterator[FakeWorkloadAPI]:
    with FakeWorkloadAPI() as agent:
        agent.issue(ca, "/payments")
        yield agent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(APP)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such table')\n")
    return tmp_path


@contextmanager
def authsec(agent: FakeWorkloadAPI, folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SPIFFE_ENDPOINT_SOCKET": agent.address}
    with subprocess.Popen(
        [sys.executable, "-m", "authsec_sdk.cli", "serve", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(agent: FakeWorkloadAPI, folder: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit code of a command that ends by itself, and what it complained."""
    with authsec(agent, folder, *arguments) as process:
        _, complaint = process.communicate(timeout=60)
        return process.returncode, complaint


def caller(ca: TestCA, path: str) -> X509ContextHolder:
    return X509ContextHolder(X509Context(svids=(ca.svid(path),), bundles=BundleSet.of(ca.bundle())))


@pytest.mark.parametrize(
    ("arguments", "accepts"),
    [
        (["served:app", "--allow", FRONTEND, "--http", "h11", "--loop", "asyncio"], FRONTEND),
        (["served:app", "--allow", "spiffe://example.org/*", "--workers", "2"], "spiffe://example.org/*"),
        (["served:make", "--factory", "--allow-trust-domain", "example.org"], "a member of trust domain example.org"),
    ],
    ids=["one", "workers", "factory"],
)
def test_serve(ca: TestCA, agent: FakeWorkloadAPI, folder: Path, arguments: list[str], accepts: str) -> None:
    options = ["--port", "0", "--output", "json", "--log-level", "debug"]
    with authsec(agent, folder, *arguments, *options) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["accepts"] == accepts
        with mtls_client(caller(ca, "/frontend"), authorize_id(PAYMENTS), timeout=20) as client:
            assert client.get(told["urls"][0]).text == f"{FRONTEND} 1"
        process.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert output == "", "standard output holds the one line"
    assert '"GET / HTTP/1.1" 200' in log


POLICY = """
version: 1
rules:
  - name: front
    allow: spiffe://example.org/frontend
    http: {{methods: [GET], paths: ["{path}"]}}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_policy_decides_on_each_request(ca: TestCA, agent: FakeWorkloadAPI, folder: Path, workers: str) -> None:
    policy = folder / "policy.yaml"
    policy.write_text(POLICY.format(path="/open"))
    options = ["--port", "0", "--output", "json", "--workers", workers]
    with authsec(agent, folder, "served:app", "--policy", str(policy), *options) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert "policy.yaml" in told["accepts"]
        url = told["urls"][0]
        with mtls_client(caller(ca, "/frontend"), authorize_id(PAYMENTS), timeout=20) as client:
            assert client.get(f"{url}/open").text == f"{FRONTEND} 1"
            assert client.get(f"{url}/closed").status_code == 403
            assert client.post(f"{url}/open").status_code == 403
            changed = folder / "changed.yaml"
            changed.write_text(POLICY.format(path="/closed"))
            changed.rename(policy)
            for _ in range(8):  # whichever worker answers
                deadline = time.monotonic() + 60
                while client.get(f"{url}/closed", headers={"connection": "close"}).status_code != 200:
                    assert time.monotonic() < deadline, "the new policy does not count"
                    time.sleep(0.02)
        with mtls_client(caller(ca, "/intruder"), authorize_id(PAYMENTS), timeout=20) as client:
            with pytest.raises(Exception, match=r"(?i)disconnected|reset|closed|EOF|alert"):
                client.get(f"{url}/open")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_who_may_not_call_is_refused_and_named_in_the_log(ca: TestCA, agent: FakeWorkloadAPI, folder: Path) -> None:
    with authsec(agent, folder, "served:app", "--allow", FRONTEND, "--port", "0", "--output", "json") as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["urls"][0]
        with mtls_client(caller(ca, "/intruder"), authorize_id(PAYMENTS), timeout=20) as client:
            with pytest.raises(Exception, match=r"(?i)disconnected|reset|closed|EOF|alert"):
                client.get(url)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert "spiffe://example.org/intruder" in log


def test_a_unix_socket_and_what_people_see(ca: TestCA, agent: FakeWorkloadAPI, folder: Path) -> None:
    path = folder / "s"
    with authsec(agent, folder, "served:app", "--allow", FRONTEND, "--uds", str(path)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0] == "serving: served:app\n"
        assert str(path) in lines[1]
        with mtls_client(caller(ca, "/frontend"), authorize_id(PAYMENTS), uds=str(path), timeout=20) as client:
            assert client.get("https://payments/").text == f"{FRONTEND} 1"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not path.exists()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["broken:app", "--allow", FRONTEND], 1, "no such table"),
        (["nowhere:app", "--allow", FRONTEND], 1, "nowhere"),
        (["served:none", "--allow", FRONTEND], 1, "none"),
        (["served:app", "--allow", FRONTEND, "--socket", "unix:///nowhere", "--timeout", "0.2"], 3, "identity"),
    ],
    ids=["raises", "no module", "no name", "no agent"],
)
def test_what_does_not_start(
    agent: FakeWorkloadAPI, folder: Path, arguments: list[str], code: int, complaint: str, workers: str
) -> None:
    ended, log = said(agent, folder, *arguments, "--port", "0", "--workers", workers)
    assert (ended, complaint in log) == (code, True), log


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["served:app"], 2, "say who may call"),
        (["served:app", "--allow", "payments"], 1, "payments"),
        (["served:app", "--unsafe-allow-any", "--allow", FRONTEND], 2, "lets in everybody"),
        (["served:app", "--policy", "nowhere.yaml"], 3, "nowhere.yaml"),
        (["served:app", "--policy", "nowhere.yaml", "--allow", FRONTEND], 2, "--policy says who may call"),
        (["served:app", "--allow", FRONTEND, "--workers", "0"], 2, "--workers"),
        (["served:app", "--allow", FRONTEND, "--workers", "2", "--reload"], 2, "--workers"),
    ],
)
def test_wrong_use(arguments: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        ended: Any = main(["serve", *arguments])
    except SystemExit as exit_:
        ended = exit_.code
    assert (ended, complaint in capsys.readouterr().err) == (code, True)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out
    assert "authsec serve app:app --allow spiffe://example.org/frontend" in shown
    assert "exit codes:" in shown


def test_without_uvicorn_it_says_what_to_install(folder: Path) -> None:
    hide = "import sys\nsys.modules['uvicorn'] = None\nfrom authsec_sdk.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", hide, "serve", "served:app", "--allow", FRONTEND],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "authsec-sdk[uvicorn]" in done.stderr) == (1, True), done.stderr
