import importlib.util
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load_peer_process() -> ModuleType:
    path = Path(__file__).parents[2] / "common" / "peer_process.py"
    spec = importlib.util.spec_from_file_location("peer_process", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["peer_process"] = module
    spec.loader.exec_module(module)
    return module


peer_process = _load_peer_process()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ac-") as folder:
        yield Path(folder)


@pytest.fixture
def listener(short_path: Path) -> Iterator[socket.socket]:
    with peer_process.listening(short_path / "s") as listening:
        yield listening


@pytest.fixture
def start_peer(listener: socket.socket) -> Callable[..., Any]:
    """Start a child that connects to the listener: a context manager."""
    return lambda *command: peer_process.connected_peer(Path(listener.getsockname()), command=command)


@pytest.fixture
def peer(start_peer: Callable[..., Any]) -> Iterator[Any]:
    with start_peer() as connected:
        yield connected


@pytest.fixture
def connection(listener: socket.socket, peer: Any) -> Iterator[socket.socket]:
    accepted, _ = listener.accept()
    with accepted:
        yield accepted


@pytest.fixture(scope="session")
def can_unshare() -> Callable[..., bool]:
    check: Callable[..., bool] = peer_process.can_unshare
    return check
