"""A real celery worker that forks: the module makes its sources, each task runs in a child that was forked later."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from authsec_sdk.testing import FakeWorkloadAPI

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.timeout(180),
]

APP = """
import os
import sys
from celery import Celery
from authsec_sdk.workloadapi import JWTSource, X509Source

folder = os.environ["FOLDER"]
app = Celery("app", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue", "data_folder_out": f"{folder}/queue", "control_folder": f"{folder}/control",
}
app.conf.worker_max_tasks_per_child = 2  # so that some children are forked while the parent's sources work
source, tokens = X509Source(), JWTSource()
if "worker" in sys.argv:
    source.wait(30)
    tokens.wait(30)


@app.task
def who(newer_than: str) -> list[object]:
    context = source.wait(30)
    while newer_than == f"{context.svid.leaf.serial_number:x}":
        context = source.wait(30, newer_than=context)
    return [f"{context.svid.leaf.serial_number:x}", str(tokens.wait_svid(["payments"]).id), os.getpid()]
"""

CALL = """
import sys
from app import who
print(*who.delay(sys.argv[1]).get(timeout=60))
"""


def test_each_task_has_the_newest_identity(fake: FakeWorkloadAPI, tmp_path: Path) -> None:
    for name in ("results", "queue", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "app.py").write_text(APP, "utf-8")
    root = Path(__file__).parents[3]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "FOLDER": str(tmp_path),
        "SPIFFE_ENDPOINT_SOCKET": fake.address,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}",
    }

    def call(newer_than: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", CALL, newer_than], env=env, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, f"{done.stderr}\n{(tmp_path / 'log').read_text()}"
        return done.stdout.split()

    command = [sys.executable, "-m", "celery", "-A", "app", "worker", "--pool", "prefork", "-c", "1"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [*command, *quiet], cwd=tmp_path, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            answers = [call("")]
            for _ in range(2):
                fake.rotate()
                answers.append(call(answers[-1][0]))
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait(30)
    assert {spiffe_id for _, spiffe_id, _ in answers} == {"spiffe://example.org/workload"}
    assert len({serial for serial, _, _ in answers}) == 3
    assert len({pid for _, _, pid in answers}) > 1, "children were forked while the worker ran"
    assert worker.returncode == 0, (tmp_path / "log").read_text()
