"""Threat model 13: somebody else listens where the agent should, and feeds workloads trust roots of his own."""

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsec_sdk.errors import NotReadyError
from authsec_sdk.quickstart import QuickStartSVID
from authsec_sdk.workloadapi import X509Source

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who listens is read from the kernel as Linux tells it")

SQUATTER = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)
listener.listen()
print("listening", os.getuid(), flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        got = connection.recv(65536)
        print("got", len(got), flush=True)
"""


class Squatter:
    """A process, of another user where we may become one, that listens in the agent's place and tells what it gets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-c", SQUATTER, str(path)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout is not None
        self.uid = int(self.process.stdout.readline().removeprefix("listening "))

    def next_connection(self) -> int:
        """How many bytes came over the next connection."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 30)[0], "nobody connected"
        return int(self.process.stdout.readline().removeprefix("got "))


@pytest.fixture
def squatter() -> Iterator[Squatter]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="sq-") as folder:
        Path(folder).chmod(0o755)
        squatter = Squatter(Path(folder) / "api.sock")
        try:
            yield squatter
        finally:
            squatter.process.kill()
            squatter.process.communicate()


@pytest.fixture
def agent_uid(squatter: Squatter) -> int:
    """The user the real agent runs as, which is not the squatter's."""
    return os.getuid() if squatter.uid != os.getuid() else os.getuid() + 1


def test_a_squatter_gets_not_one_byte_and_is_named(squatter: Squatter, agent_uid: int) -> None:
    source = X509Source(f"unix://{squatter.path}", expected_agent_uid=agent_uid, ready_timeout=1)
    with pytest.raises(NotReadyError, match=f"user {squatter.uid} listens at .* may be a fake agent"), source:
        pytest.fail("not reached")
    assert squatter.next_connection() == 0


@pytest.mark.anyio
async def test_neither_does_quick_start_believe_it(squatter: Squatter, agent_uid: int) -> None:
    with pytest.raises(NotReadyError, match="fake agent"):
        await QuickStartSVID.initialize(socket_path=f"unix://{squatter.path}", expected_agent_uid=agent_uid, timeout=1)
    assert squatter.next_connection() == 0


def test_where_nobody_is_expected_the_squatter_is_asked(squatter: Squatter) -> None:
    """The limit as it is: without `expected_agent_uid` a workload asks whoever is there."""
    with pytest.raises(NotReadyError), X509Source(f"unix://{squatter.path}", ready_timeout=1):
        pytest.fail("not reached")
    assert squatter.next_connection() > 0
