"""Agents that hang, flood, or send what is huge or wrong, at each kind of source: bounded, and one clear error."""

import gc
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.errors import NotReadyError
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.workloadapi import JWTSource, UpdateLimits, X509BundleSource, X509Source

KINDS = [X509Source, X509BundleSource, JWTSource]
MEGABYTE = 1 << 20


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def sender(kind: Any, agent: FakeWorkloadAPI) -> Callable[..., None]:
    """What sends any message at all on the streams of this kind of source."""
    sends: dict[Any, Callable[..., None]] = {
        X509Source: agent.send,
        X509BundleSource: agent.send_bundles,
        JWTSource: agent.send_jwt_bundles,
    }
    return sends[kind]


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="lying-agent-", dir="/tmp") as folder:
        yield str(Path(folder) / "api.sock")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("says", [b"", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"], ids=["nothing", "settings"])
def test_an_agent_that_takes_the_call_and_hangs(kind: Any, says: bytes, path: str, spiffe_ca: Any) -> None:
    held: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def hang() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    connection.sendall(says)
            except OSError:
                return

        thread = threading.Thread(target=hang)
        thread.start()
        source = kind(f"unix://{path}")
        with pytest.raises(NotReadyError):
            source.wait(1)
        # An agent that works takes its place; the source finds it once the one that hangs is gone.
        Path(path).unlink()
        with FakeWorkloadAPI(path) as agent:
            agent.issue(spiffe_ca)
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            for connection in held:
                connection.close()
            assert source.wait(60)
            source.close()
    assert len(held) <= 3, "it does not open one connection after the other"


@pytest.mark.parametrize("kind", KINDS)
def test_closing_does_not_wait_for_an_agent_that_hangs(kind: Any, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        source = kind(f"unix://{path}")
        source.start()
        connection, _ = listener.accept()
        with connection:
            source.close()
            connection.settimeout(30)
            while connection.recv(4096):
                pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["a message that is too large", "no message"])
def test_the_last_good_one_is_kept_and_the_next_good_one_taken(
    kind: Any, what: str, workload_api: FakeWorkloadAPI
) -> None:
    messages = {
        "a message that is too large": b"\x12" + b"\xff" * (3 * MEGABYTE),
        "no message": b"\xff\xff\xff\xff",
    }
    with kind(workload_api.address, limits=UpdateLimits(message_bytes=MEGABYTE)) as source:
        before = source.wait(30)
        failures = source.status.failures + source.status.rejected
        sender(kind, workload_api)(messages[what], keep=False)
        until(lambda: source.status.failures + source.status.rejected + source.status.reconnects > failures)
        assert source.wait(0) is before
        assert source.status.last_error is not None
        workload_api.tokens.rotate_keys()
        workload_api.rotate(root=True)
        assert source.wait(60, newer_than=before) is not before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory in /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_of_updates_is_bounded_in_memory(kind: Any, workload_api: FakeWorkloadAPI) -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    junk = b"\x7a" + b"\x80\x80\x20" + b"x" * (512 * 1024)  # one unknown field of 512 KiB
    with kind(workload_api.address) as source:
        before = source.wait(30)

        def flood(times: int) -> None:
            for _ in range(times):
                calls = workload_api.calls
                refused = source.status.rejected + source.status.updates
                sender(kind, workload_api)(junk, keep=False)
                until(
                    lambda calls=calls, refused=refused: (  # type: ignore[misc]
                        source.status.rejected + source.status.updates > refused or workload_api.calls > calls
                    )
                )

        flood(10)
        start = resident()
        flood(100)
        assert resident() - start < 25 * MEGABYTE, "fifty megabytes were sent"
        assert source.wait(0) is before or kind is not X509Source
