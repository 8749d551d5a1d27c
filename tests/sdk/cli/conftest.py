"""``authsec`` as a process, with an agent to talk to."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0


@pytest.fixture
def ca() -> TestCA:
    return TestCA("example.org")


@pytest.fixture
def agent(ca: TestCA) -> Iterator[FakeWorkloadAPI]:
    """A fake agent that gives this process one identity."""
    with FakeWorkloadAPI() as fake:
        fake.issue(ca, "/payments")
        yield fake


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as path:
        yield Path(path)


@dataclass
class Running:
    """One ``authsec`` that runs, what it said on standard error, and what its command said on standard output."""

    process: subprocess.Popen[bytes]
    folder: Path

    def events(self) -> list[dict[str, Any]]:
        lines = (self.folder / "stderr").read_text().splitlines()
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def names(self) -> list[str]:
        return [event["event"] for event in self.events()]

    def said(self) -> str:
        return (self.folder / "stdout").read_text()

    def errors(self) -> str:
        return (self.folder / "stderr").read_text()

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"did not happen; it said {self.errors()!r} and {self.said()!r}")
            time.sleep(0.01)

    def until_event(self, name: str, times: int = 1) -> None:
        self.until(lambda: self.names().count(name) >= times)

    def until_said(self, text: str, times: int = 1) -> None:
        self.until(lambda: self.said().count(text) >= times)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)


Start = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def authsec() -> Iterator[Start]:
    """Start ``authsec`` with these arguments; it ends with the block at the latest."""
    with tempfile.TemporaryDirectory(prefix="out-", dir="/tmp") as outputs:

        @contextmanager
        def start(*arguments: object, env: dict[str, str] | None = None, wrapper: str = "") -> Iterator[Running]:
            place = Path(tempfile.mkdtemp(dir=outputs))
            environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(env or {})}
            command = [sys.executable, "-m", "authsec_sdk.cli", *map(str, arguments)]
            if wrapper:
                command = [sys.executable, "-c", wrapper, *command]
            with (place / "stdout").open("wb") as out, (place / "stderr").open("wb") as err:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
                )
            running = Running(process, place)
            try:
                yield running
            finally:
                if process.poll() is None:
                    process.terminate()
                    try:
                        process.wait(PATIENCE)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()

        yield start


@pytest.fixture
def run(authsec: Start, agent: FakeWorkloadAPI, folder: Path) -> Start:
    """Start ``authsec run`` for the agent and the folder."""

    def start(*arguments: object, **options: Any) -> AbstractContextManager[Running]:
        common = ["run", "--socket", agent.address, "--dir", folder, "--output", "json"]
        return authsec(*common, *arguments, **options)

    return start
