"""Servers that are programs of their own: an agent that follows a test's source, and what the program reports."""

import os
import pickle
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration_contract.asgi import httpx_caller
from integration_contract.reporting import key

from authsec_sdk.testing import FakeWorkloadAPI

ROOT = Path(__file__).resolve().parents[4]
PATIENCE = 60


class Program:
    """A server process with its workers: where it listens, and what they reported."""

    def __init__(self, folder: Path, source: Any, on_rejected: Any) -> None:
        self.port = 0
        self.folder = folder
        self.source = source
        self.contexts: dict[int, Any] = {}
        self.process: Any = None
        self._on_rejected = on_rejected
        self._hits = 0
        self._lock = threading.Lock()
        self._reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reports.bind(str(folder / "reports"))
        self._end, self._told = os.pipe()
        self._reader = threading.Thread(target=self._read, name="reports")
        self._reader.start()

    def _read(self) -> None:
        while self._end not in select.select([self._reports, self._end], [], [])[0]:
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            while select.select([self._reports], [], [], 0)[0]:
                kind, pid, value = pickle.loads(self._reports.recv(1 << 17))
                if kind == "hit":
                    self._hits += 1
                elif kind == "context":
                    self.contexts[pid] = value
                elif self._on_rejected is not None:
                    self._on_rejected(value)

    @property
    def hits(self) -> int:
        self._drain()
        return self._hits

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, f"ended: {self.output()}"
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.output()}"
            time.sleep(0.01)

    def caught_up(self) -> bool:
        """Whether every worker that lives has what the source has."""
        wanted = key(self.source.x509_context)
        living = {pid: seen for pid, seen in self.contexts.items() if Path(f"/proc/{pid}").exists()}
        return bool(living) and all(seen == wanted for seen in living.values())

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def close(self) -> None:
        os.write(self._told, b"x")
        self._reader.join()
        self._reports.close()
        os.close(self._end)
        os.close(self._told)


@contextmanager
def program(
    source: Any, on_rejected: Any, files: dict[str, str], command: Callable[[int], list[str]]
) -> Iterator[Program]:
    """Run a program in a folder with these files; ends it with SIGTERM, and fails unless it ends by that."""
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    agent = FakeWorkloadAPI(folder / "agent")
    running = Program(folder, source, on_rejected)
    try:
        with agent:
            remove = source._add_listener(agent.set_context)
            agent.set_context(source.x509_context)
            shutil.copy(Path(__file__).with_name("reporting.py"), folder)
            for name, content in files.items():
                (folder / name).write_text(content)
            with socket.create_server(("127.0.0.1", 0)) as probe:
                running.port = probe.getsockname()[1]
            env = {
                **{name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))},
                "PYTHONPATH": f"{ROOT}:{folder}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "REPORTS": str(folder / "reports"),
                "SPIFFE_ENDPOINT_SOCKET": agent.address,
            }
            with (folder / "output").open("wb") as output:
                running.process = subprocess.Popen(
                    [sys.executable, *command(running.port)], cwd=folder, env=env, stdout=output, stderr=output
                )
            try:
                running.until(lambda: _listening(running.port), "listening")
                running.until(running.caught_up, "an identity")
                yield running
                running.process.terminate()
                assert running.process.wait(PATIENCE) in (0, -15), running.output()
            finally:
                if running.process.poll() is None:
                    running.process.kill()
                    running.process.wait()
                remove()
    finally:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)


def _listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def caller_of(
    served: Program, port: int, source: Any, authorizer: Any, on_rejected: Any = None, **options: Any
) -> Iterator[Callable[[], Any]]:
    """As `httpx_caller`, and each call waits until the program has heard what its source says now."""
    with httpx_caller(port, source, authorizer, on_rejected, **options) as call:

        def wait_and_call() -> Any:
            served.until(served.caught_up, "the newest identity")
            return call()

        yield wait_and_call
