import importlib.util
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from authsec_sdk.hcl import Fields, parse
from icp_common.peer_credentials import PeerCredentials


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


@pytest.fixture
def credentials(connection: socket.socket) -> PeerCredentials:
    return PeerCredentials.of(connection)


@pytest.fixture
def proc(peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A node whose /proc says what a test wants of control groups, and the truth about the rest of the process.

    Real control groups need root and a cgroup file system that may be written: `test_real_cgroups.py` has those.
    """
    root = tmp_path / "proc"
    monkeypatch.setenv("HOST_PROC", str(root))

    def show(cgroups: str, pid: int = 0) -> None:
        shown = root / str(pid or peer.pid)
        shown.mkdir(parents=True, exist_ok=True)
        for name in ("stat", "status"):
            (shown / name).write_bytes(Path(f"/proc/{pid or peer.pid}/{name}").read_bytes())
        (shown / "cgroup").write_text(cgroups)

    show("0::/\n")
    return show


@pytest.fixture
def place(proc: Callable[..., None], listener: socket.socket) -> Iterator[Callable[..., PeerCredentials]]:
    """Put the peer into these control groups, and take it up."""
    accepted: list[socket.socket] = []

    def take(cgroups: str) -> PeerCredentials:
        proc(cgroups)
        if not accepted:
            accepted.append(listener.accept()[0])
        return PeerCredentials.of(accepted[0])

    yield take
    for connection in accepted:
        connection.close()


@pytest.fixture(scope="session")
def data() -> Callable[..., Any]:
    """`plugin_data` of this text."""
    return lambda text="": Fields(parse(text, "agent.conf"), "plugin_data")
