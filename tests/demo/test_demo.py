"""The demo exits 0 when everything happened as it should, and only then; it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(180)


def children_of_the_demo(marker: str) -> list[str]:
    """Return the command lines of processes that still carry a demo's marker in their environment or arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in text and process.name != str(os.getpid()):
            found.append(text.decode(errors="replace"))
    return found


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    # TMPDIR names this run's own folder, so that whatever is left of it can be told from other runs.
    short = Path(os.path.realpath(f"/tmp/{tmp_path.name[:8]}{os.getpid()}{time.monotonic_ns() % 10**6}"))
    short.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", "--plain", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(short)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process.folder = short  # type: ignore[attr-defined]
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=150)
    folder: Path = process.folder  # type: ignore[attr-defined]
    assert children_of_the_demo(str(folder)) == []
    assert list(folder.iterdir()) == []
    folder.rmdir()
    return process.returncode, output


def test_demo_shows_the_main_job(tmp_path: Path) -> None:
    code, output = finish(start(tmp_path))
    assert code == 0, output
    for line in (
        "spiffe://demo.example/frontend called spiffe://demo.example/payments",
        "spiffe://demo.example/payments rotated",
        "spiffe://demo.example/frontend rotated",
        "spiffe://demo.example/payments refused spiffe://demo.example/intruder",
        "a process without an entry got no identity",
        "failures 0",
        "everything happened as it should",
    ):
        assert line in output


@pytest.mark.parametrize(
    ("protection", "said"),
    [
        ("authorizer", "the intruder was served"),
        ("rotation", "DID NOT HAPPEN in time: 2 rotations"),
        ("attestation", "a process without an entry got the identity"),
    ],
)
def test_demo_notices_when_a_protection_is_off(tmp_path: Path, protection: str, said: str) -> None:
    code, output = finish(start(tmp_path, "--break", protection, "--seconds", "15"))
    assert code == 1, output
    assert said in output


def test_interrupted_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if " called " in line:
            break
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 130, output


def test_killed_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if " called " in line:
            break
    process.kill()
    process.communicate(timeout=30)
    folder: Path = process.folder  # type: ignore[attr-defined]
    end = time.monotonic() + 20
    while children_of_the_demo(str(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    assert children_of_the_demo(str(folder)) == []
