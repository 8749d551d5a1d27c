"""The page about policies: its documents are one policy, its commands and code run, its example follows the file."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from authsec_sdk.authz import Policy, Request
from authsec_sdk.cli import main
from authsec_sdk.policyfile import parse_policy
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs/policy.md").read_text(), re.MULTILINE | re.DOTALL)
YAML, TOML, JSON, SHELL, PYTHON = (text for _, text in BLOCKS)

WEB = SpiffeID.parse("spiffe://example.org/ns/shop/sa/web")


@pytest.fixture
def policy() -> Policy:
    return parse_policy(YAML.encode(), "yaml")


def test_each_block_is_tried_here() -> None:
    assert [kind for kind, _ in BLOCKS] == ["yaml", "toml", "json", "sh", "python"]


def test_the_three_documents_are_one_policy(policy: Policy) -> None:
    assert parse_policy(TOML.encode(), "toml") == policy
    assert parse_policy(JSON.encode(), "json") == policy


def test_the_policy_says_what_the_page_says(policy: Policy) -> None:
    assert policy.decide(WEB, Request.http("HEAD", "/orders/")).allowed
    assert not policy.decide(WEB, Request.http("GET", "/orders/a%2Fb".replace("%2F", "/"), "/orders/a%2Fb")).allowed
    assert not policy.decide(SpiffeID.parse("spiffe://example.org/ns/test/sa/web"), Request.grpc("/a.B/C")).allowed


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(YAML)
    said = []
    for line in SHELL.splitlines():
        name, *arguments = shlex.split(line)
        assert name == "authsec"
        assert main(arguments) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == "policy.yaml: good, with 3 rules (2 allow, 1 deny)\n"
    assert "rule 'shop-reads-orders' (line 3) allows it" in said[1]
    assert json.loads(said[2])["decision"] == "allowed"


def test_the_code_runs(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(TOML)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", PYTHON, str(tmp_path / "policy.toml")]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["no rule allows it", "True {('shop-reads-orders', 'allowed'): 1}"], done.stderr


def test_the_example_follows_its_file(tmp_path: Path) -> None:
    ca = TestCA("example.org")
    file = tmp_path / "policy.json"
    rule = {"name": "a", "allow": "spiffe://example.org/frontend", "http": {"paths": "/a"}}

    def put(*rules: Mapping[str, object]) -> None:
        (tmp_path / "new").write_text(json.dumps({"version": 1, "rules": rules}))
        (tmp_path / "new").rename(file)

    put(rule)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(ca, "/frontend")
        payments.issue(ca, "/payments")
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

        def get(path: str) -> str:
            line = [str(ROOT / "examples/httpx_client.py"), f"https://127.0.0.1:{port}{path}"]
            done = subprocess.run(
                [sys.executable, *line, "spiffe://example.org/payments"],
                env={**env, "SPIFFE_ENDPOINT_SOCKET": frontend.address},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            return done.stdout + done.stderr

        def until(path: str, expected: str) -> None:
            deadline = time.monotonic() + 60
            while expected not in (answer := get(path)):
                assert time.monotonic() < deadline, answer

        server = [sys.executable, str(ROOT / "examples/policy_server.py"), str(port), str(file)]
        with subprocess.Popen(server, env={**env, "SPIFFE_ENDPOINT_SOCKET": payments.address}) as process:
            try:
                until("/a", ": 200")
                until("/b", ": 403")
                put(rule, {**rule, "name": "b", "http": {"paths": "/b"}})
                until("/b", ": 200")
            finally:
                process.terminate()
