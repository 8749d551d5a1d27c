"""The page about federation, and its examples: each does what it says, with real endpoints."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from authsec_sdk.federation import BundleEndpoint, BundleServer, own_bundle, wait_bundle
from authsec_sdk.spiffe import BundleSet, TrustBundle, X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.tls import tls_server_context

ROOT = Path(__file__).resolve().parents[2]
FOLLOW, ONCE, SERVE = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs/how-to/federation.md").read_text(), re.MULTILINE | re.DOTALL
)
LISTENING = re.compile(r"running on https://\S+:(\d+)")


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **more}


def run(code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=60, check=False)


class Domain:
    """b.test, with an endpoint for its bundle."""

    def __init__(self) -> None:
        self.ca = TestCA("b.test")
        svid = self.ca.svid("/bundle-server", dns_names=["localhost"])
        self.holder = X509ContextHolder(X509Context((svid,), BundleSet.of(self.ca.bundle())))

    @contextmanager
    def endpoint(self, **options: Any) -> Iterator[str]:
        context = tls_server_context(self.holder, alpn=["http/1.1"])
        app = BundleServer(own_bundle("b.test", self.holder), refresh_hint=timedelta(minutes=1))
        config = uvicorn.Config(app, port=0, log_config=None, ssl_context_factory=lambda *_: context, **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            deadline = time.monotonic() + 60
            while not (server.started and server.servers):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield f"https://localhost:{server.servers[0].sockets[0].getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def domain() -> Domain:
    return Domain()


def test_follow(domain: Domain, fake_workload_api: FakeWorkloadAPI, tmp_path: Path) -> None:
    (tmp_path / "first.pem").write_bytes(domain.ca.bundle().to_pem())
    with domain.endpoint() as url:
        done = run(FOLLOW, url, str(tmp_path / "first.pem"), SPIFFE_ENDPOINT_SOCKET=fake_workload_api.address)
    assert done.stdout == "b.test example.org\n", done.stderr


def test_once(domain: Domain, tmp_path: Path) -> None:
    """To web clients the SVID with its DNS name is a certificate like any other, of an authority they were told."""
    (tmp_path / "roots.pem").write_bytes(domain.ca.bundle().to_pem())
    with domain.endpoint() as url:
        done = run(ONCE, url, str(tmp_path / "roots.pem"))
    assert re.fullmatch(r"b\.test 1 \d{10} 0:01:00\n", done.stdout), done.stderr


@contextmanager
def started(*command: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment(PYTHONUNBUFFERED="1", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("which", ["page", "example"])
def test_serve(which: str, fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    command = (
        ("-c", SERVE, "0", state)
        if which == "page"
        else (str(ROOT / "examples/federation_server.py"), "0", "example.org", state)
    )
    with started(*command, SPIFFE_ENDPOINT_SOCKET=fake_workload_api.address) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := LISTENING.search(line):
                break
        else:
            pytest.fail("".join(lines))
        endpoint = BundleEndpoint.spiffe(
            "example.org",
            f"https://127.0.0.1:{found[1]}/",
            "spiffe://example.org/workload",
            bundle=spiffe_ca.bundle(),
        )
        bundle = wait_bundle(endpoint)
    assert isinstance(bundle, TrustBundle)
    assert bundle.x509_bundle() == spiffe_ca.bundle()
    assert bundle.jwt_authorities
    assert (tmp_path / "state").exists()


def test_the_example_of_a_client(domain: Domain, tmp_path: Path) -> None:
    (tmp_path / "first.pem").write_bytes(domain.ca.bundle().to_pem())
    with domain.endpoint() as url:
        example = str(ROOT / "examples/federation_client.py")
        first = str(tmp_path / "first.pem")
        with started(example, "b.test", url, "spiffe://b.test/bundle-server", first) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if line == "b.test sequence=None x509=1 jwt=0\n":  # counts at once, but a fetch may be faster
                line = process.stdout.readline()
            assert re.fullmatch(r"b\.test sequence=\d{10} x509=1 jwt=0\n", line)


@pytest.mark.parametrize("example", ["federation_server.py", "federation_client.py"])
def test_examples_are_short(example: str) -> None:
    assert len((ROOT / "examples" / example).read_text().splitlines()) <= 60
