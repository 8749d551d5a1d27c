"""``authsec run --config helper.conf``: as spiffe-helper would, seen from outside."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.spiffe import JWTSVID
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

CONF = """
agent_address = "{agent}"
cert_dir = "{folder}"
svid_file_name = "svid.pem"
svid_key_file_name = "svid_key.pem"
svid_bundle_file_name = "svid_bundle.pem"
jwt_svids = [{{jwt_audience="vault", jwt_svid_file_name="token"}}]
jwt_bundle_file_name = "keys.json"
"""
PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"reloads"))
print("begins", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def conf(tmp_path: Path, folder: Path, agent: FakeWorkloadAPI) -> Any:
    def write(more: str = "") -> Path:
        path = tmp_path / "helper.conf"
        path.write_text(CONF.format(agent=agent.address.removeprefix("unix://"), folder=folder) + more)
        return path

    return write


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_one_shot(authsec: Any, conf: Any, folder: Path) -> None:
    with authsec("run", "--config", conf('daemon_mode = false\ncmd = "false"')) as running:
        assert running.wait() == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "keys.json",
        "svid.pem",
        "svid_bundle.pem",
        "svid_key.pem",
        "token",
    ]
    assert JWTSVID.unsafe_parse((folder / "token").read_text()).audience == ("vault",)
    assert "cmd is not run" in running.errors()


def test_the_flag_overrides_the_file(authsec: Any, conf: Any) -> None:
    with authsec("run", "--config", conf("daemon_mode = true"), "--daemon-mode", "false") as running:
        assert running.wait() == 0


def test_the_command_is_signalled_while_it_runs(authsec: Any, conf: Any, program: Path, agent: FakeWorkloadAPI) -> None:
    more = f'cmd = "{sys.executable}"\ncmd_args = "{program} 600"\nrenew_signal = "SIGUSR1"'
    with authsec("run", "--config", conf(more)) as running:
        running.until_said("begins")
        agent.rotate()
        running.until_said("reloads")
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0


def test_a_command_that_has_ended_is_run_again_at_the_next_rotation(
    authsec: Any, conf: Any, program: Path, agent: FakeWorkloadAPI
) -> None:
    more = f'cmd = "{sys.executable}"\ncmd_args = "{program} 0"\nrenew_signal = "SIGUSR1"'
    with authsec("run", "--output", "json", "--config", conf(more)) as running:
        running.until_event("ended")
        assert running.process.poll() is None
        agent.rotate()
        running.until_event("ended", times=2)
        assert running.said().count("begins") == 2


def test_a_command_that_cannot_be_run_is_told_and_the_files_are_kept_new(
    authsec: Any, conf: Any, folder: Path, agent: FakeWorkloadAPI
) -> None:
    with authsec("run", "--output", "json", "--config", conf('cmd = "/does/not/exist"')) as running:
        running.until_event("not started")
        before = (folder / "svid.pem").read_bytes()
        agent.rotate()
        running.until(lambda: (folder / "svid.pem").read_bytes() != before)


def test_federated_domains(authsec: Any, conf: Any, folder: Path, agent: FakeWorkloadAPI) -> None:
    agent.federate(TestCA("other.org"))
    path = conf("include_federated_domains = true\ndaemon_mode = false")
    with authsec("run", "--config", path) as running:
        assert running.wait() == 1
        assert "--bundle-map" in running.errors()
    with authsec("run", "--config", path, "--bundle-map", "trust_bundles.json") as running:
        assert running.wait() == 0
    assert sorted(json.loads((folder / "trust_bundles.json").read_text())["trust_domains"]) == [
        "example.org",
        "other.org",
    ]
    assert (folder / "svid_bundle.pem").read_text().count("BEGIN CERTIFICATE") == 1
    with authsec("run", "--config", path, "--unsafe-federated-in-pem") as running:
        assert running.wait() == 0
    assert (folder / "svid_bundle.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_a_mistake_is_told_with_its_line(authsec: Any, conf: Any) -> None:
    with authsec("run", "--config", conf('svid_filename = "x"')) as running:
        assert running.wait() == 1
        assert "helper.conf:9:1" in running.errors()
        assert "did you mean 'svid_file_name'" in running.errors()
