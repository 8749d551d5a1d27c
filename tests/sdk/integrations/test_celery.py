"""Celery with the real program: every worker process of its pool has an identity of its own, always the newest."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[3]
TASKS = """
import os
from celery import Celery
from authsec_sdk.workloadapi import X509Source

app = Celery("tasks", broker="filesystem://", backend="file://{folder}/results")
app.conf.broker_transport_options = {{
    "data_folder_in": "{folder}/queue", "data_folder_out": "{folder}/queue",
    "control_folder": "{folder}/control",
    "polling_interval": 0.05,
}}
app.conf.worker_prefetch_multiplier = 1
source = X509Source()  # made in the parent: each process of the pool begins a stream of its own when it first asks

@app.task
def identity(newer_than):
    source.wait(30)
    deadline = 3000
    while str(source.x509_context.svid.leaf.serial_number) == newer_than and deadline:
        deadline -= 1
        import time
        time.sleep(0.01)
    return [os.getpid(), str(source.x509_context.svid.id), str(source.x509_context.svid.leaf.serial_number)]

if {started}:
    source.wait(30)
"""
ASK = """
import json, sys
from tasks import identity
for result in [identity.delay(sys.argv[1]) for _ in range(6)]:
    print(json.dumps(result.get(timeout=60, interval=0.05)))
"""


@pytest.fixture
def agent() -> Iterator[FakeWorkloadAPI]:
    with FakeWorkloadAPI() as agent:
        agent.issue(TestCA("example.org"), "/worker")
        yield agent


@contextmanager
def celery(folder: Path, agent: FakeWorkloadAPI, *, started: bool, options: list[str]) -> Iterator[Any]:
    """Run a worker; give what asks its processes who they are."""
    for name in ("queue", "results", "control"):
        (folder / name).mkdir()
    (folder / "tasks.py").write_text(TASKS.format(folder=folder, started=started))
    (folder / "ask.py").write_text(ASK)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "SPIFFE_ENDPOINT_SOCKET": agent.address}
    command = ["-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "2", *options]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]

    def ask(newer_than: str = "") -> list[tuple[int, str, str]]:
        done = subprocess.run(
            [sys.executable, "ask.py", newer_than],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr + (folder / "log").read_text()
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command, *quiet], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process, ask
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # Celery's own way of ending takes it five idle seconds
            process.wait()


@pytest.mark.parametrize("started", [True, False], ids=["begun before the fork", "begun after it"])
def test_each_process_of_the_pool_follows_rotations(agent: FakeWorkloadAPI, tmp_path: Path, started: bool) -> None:
    with celery(tmp_path, agent, started=started, options=[]) as (process, ask):
        before = ask()
        assert {spiffe_id for _, spiffe_id, _ in before} == {"spiffe://example.org/worker"}
        [serial] = {serial for _, _, serial in before}
        agent.rotate()
        after = ask(serial)
        assert serial not in {serial for _, _, serial in after}
        pids = {pid for pid, _, _ in before + after}
        assert process.pid not in pids
        if started:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, "the source keeps no process from its end"
            assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_processes_that_are_recycled_have_an_identity_too(agent: FakeWorkloadAPI, tmp_path: Path) -> None:
    with celery(tmp_path, agent, started=True, options=["--max-tasks-per-child", "1"]) as (_, ask):
        seen = ask()
        assert len({pid for pid, _, _ in seen}) == 6
        assert {spiffe_id for _, spiffe_id, _ in seen} == {"spiffe://example.org/worker"}
