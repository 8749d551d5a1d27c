"""Ours ÷ py-spiffe with spiffe-tls: a call on an open connection, and CPU of a new one, blocking sockets on both sides.

They are installed into an environment of their own in .cache/bench. Where the package index cannot be reached, that is
said and nothing is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from bench import _results
from bench._fleet import cpu_seconds
from bench._heap import KEEPING
from bench._paired import compare

PACKAGES = ("spiffe==0.3.2", "spiffe-tls==0.4.0")
ENVIRONMENT = _results.FOLDER / "py-spiffe"
SCRIPT = Path(__file__).with_name("_echo.py")


def environment() -> Path | None:
    """Return the interpreter that has them, or None where they cannot be had."""
    python = ENVIRONMENT / "bin/python"
    made = ENVIRONMENT / ".made"
    if not made.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            print(f"py-spiffe and spiffe-tls cannot be installed: {(done.stderr.splitlines() or ['?'])[-1]}")
            return None
        made.touch()
    return python


class Ends:
    """Server and client of one SDK, each a process."""

    def __init__(self, server: subprocess.Popen[str], client: subprocess.Popen[str]) -> None:
        self._client = client
        self._pids = (server.pid, client.pid)

    def steady(self, calls: int) -> float:
        """Return the median time of a call in microseconds."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(f"steady {calls}\n")
        self._client.stdin.flush()
        return float(self._client.stdout.readline())

    def fresh(self, calls: int) -> float:
        """Return microseconds of CPU of both ends for a connection with a call."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        begun = sum(map(cpu_seconds, self._pids))
        self._client.stdin.write(f"fresh {calls}\n")
        self._client.stdin.flush()
        self._client.stdout.readline()
        return (sum(map(cpu_seconds, self._pids)) - begun) / calls * 1e6


@contextmanager
def process(*command: str, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run one end until left; yield it and the first line it says."""
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert started.stdout is not None
    assert started.stderr is not None
    try:
        if not (line := started.stdout.readline().strip()):
            raise SystemExit(f"{command} ended:\n{started.stderr.read()[-2000:]}")
        yield started, line
    finally:
        started.kill()
        started.communicate()


@contextmanager
def ends(python: Path, kind: str, env: dict[str, str]) -> Iterator[Ends]:
    """Run both ends with one SDK."""
    with (
        process(str(python), str(SCRIPT), "server", kind, env=env) as (server, port),
        process(str(python), str(SCRIPT), "client", kind, port, env=env) as (client, _),
    ):
        yield Ends(server, client)


def main() -> int:
    """Measure and print; nothing is claimed here."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--calls", type=int, default=100, help="per round")
    arguments.add_argument("--connections", type=int, default=20, help="per round")
    options = arguments.parse_args()
    if (python := environment()) is None:
        _results.plain("ours ÷ py-spiffe and spiffe-tls", "not measured: the package index was not reachable")
        return 0
    with FakeWorkloadAPI() as api, ExitStack() as stack:
        api.issue(TestCA("bench.test"), "/workload")
        env = {**os.environ, **KEEPING, "SPIFFE_ENDPOINT_SOCKET": api.address}
        root = str(Path(__file__).resolve().parent.parent)
        ours = stack.enter_context(ends(Path(sys.executable), "ours", {**env, "PYTHONPATH": root}))
        theirs = stack.enter_context(ends(python, "spiffe-tls", env))
        name = "ours ÷ py-spiffe with spiffe-tls, 100 B"
        compare(
            f"{name}: p50 of a call",
            lambda: ours.steady(options.calls),
            lambda: theirs.steady(options.calls),
            rounds=options.rounds * 2,
        ).report(unit="µs")
        compare(
            f"{name}: CPU of a new connection",
            lambda: ours.fresh(options.connections),
            lambda: theirs.fresh(options.connections),
            rounds=options.rounds,
        ).report(unit="µs")
    return 0


if __name__ == "__main__":
    raise SystemExit(_results.run("py_spiffe", main))
