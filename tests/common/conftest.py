import importlib.util
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder of ours with a name short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ac-") as folder:
        yield Path(folder)


@pytest.fixture
def import_path() -> Callable[[dict[str, str]], dict[str, str]]:
    """An environment in which a child process finds the packages under test."""

    def extend(environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "PYTHONPATH": str(ROOT)}

    return extend


def _load_peer_process() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_process", Path(__file__).with_name("peer_process.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["peer_process"] = module
    spec.loader.exec_module(module)
    return module


peer_process = _load_peer_process()


@pytest.fixture
def listener(short_path: Path) -> Iterator[socket.socket]:
    with peer_process.listening(short_path / "s") as listening:
        yield listening


@pytest.fixture
def peer(listener: socket.socket) -> Iterator[Any]:
    with peer_process.connected_peer(Path(listener.getsockname())) as connected:
        yield connected


@pytest.fixture
def connection(listener: socket.socket, peer: Any) -> Iterator[socket.socket]:
    """Our end of the peer's connection."""
    accepted, _ = listener.accept()
    with accepted:
        yield accepted


@pytest.fixture(scope="session")
def can_unshare() -> Callable[..., bool]:
    """Whether this machine lets us make namespaces, by the options of `unshare`."""
    check: Callable[..., bool] = peer_process.can_unshare
    return check
