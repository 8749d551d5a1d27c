import errno
import gc
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp_common.peer_credentials import (
    SO_PEERPIDFD,
    CallerGoneError,
    PeerCredentials,
    UnidentifiablePeerError,
    is_ambiguous,
    unambiguous_gids,
)
from icp_common.process import Process, ProcessGoneError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
ALL = "         0          0 4294967295\n"
CONTAINER = "         0     100000      65536\n"


class WithoutPidfd:
    """A socket on a kernel before Linux 6.5."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        if optname == SO_PEERPIDFD:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        return self._connection.getsockopt(level, optname, buflen)


@pytest.fixture(params=["as it is", "without SO_PEERPIDFD"])
def identify(request: pytest.FixtureRequest) -> Callable[[socket.socket], PeerCredentials]:
    if request.param == "as it is":
        return PeerCredentials.of
    return lambda connection: PeerCredentials.of(WithoutPidfd(connection))


Identify = Callable[[socket.socket], PeerCredentials]


def test_the_kernel_says_who_it_is(peer: Any, connection: socket.socket, identify: Identify) -> None:
    credentials = identify(connection)
    assert (credentials.pid, credentials.uid, credentials.gid) == (peer.pid, os.geteuid(), os.getegid())
    assert credentials.pidfd is not None
    assert credentials.executable is not None
    facts = credentials.verify_still_same()
    assert facts.start_time == credentials.start_time
    credentials.close()
    with pytest.raises(CallerGoneError):
        credentials.verify_still_same()


def test_a_caller_that_ended_is_gone(peer: Any, connection: socket.socket, identify: Identify) -> None:
    credentials = identify(connection)
    peer.end()
    with pytest.raises(CallerGoneError, match="has ended"):
        credentials.verify_still_same()


def test_a_caller_that_ended_before_it_was_taken_up_is_gone(
    peer: Any, connection: socket.socket, identify: Identify
) -> None:
    peer.end()
    with pytest.raises(CallerGoneError, match="has ended"):
        identify(connection)


def test_a_caller_that_ended_and_was_not_reaped_is_gone(
    peer: Any, connection: socket.socket, identify: Identify
) -> None:
    peer.process.kill()
    os.waitid(os.P_PID, peer.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(CallerGoneError):
        identify(connection)


def take_over(pid: int) -> subprocess.Popen[bytes]:
    """Start processes until one has this number."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    for _ in range(200):
        try:
            last.write_text(str(pid - 1))
        except OSError:
            pytest.skip("choosing the number of the next process needs CAP_SYS_ADMIN")
        process = subprocess.Popen(["sleep", "60"])
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    pytest.skip("other processes took the number each time")


def test_a_reused_number_is_never_the_caller(peer: Any, connection: socket.socket, identify: Identify) -> None:
    """Threat: the caller ends and another process of the same user gets its number."""
    credentials = identify(connection)
    by_directory = Process(peer.pid)
    peer.end()
    with take_over(peer.pid) as other:
        try:
            assert other.poll() is None
            with pytest.raises(CallerGoneError):
                credentials.verify_still_same()
            with pytest.raises(ProcessGoneError):
                by_directory.facts()
            with pytest.raises(CallerGoneError):
                PeerCredentials.of(connection)  # looked at only now: the kernel still knows who connected
        finally:
            other.kill()


def test_a_descriptor_of_another_process_is_not_the_callers(peer: Any, connection: socket.socket) -> None:
    class Confused(WithoutPidfd):
        def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
            if optname == SO_PEERPIDFD:
                return struct.pack("=i", os.pidfd_open(os.getpid()))
            return super().getsockopt(level, optname, buflen)

    with pytest.raises(CallerGoneError, match="has ended"):
        PeerCredentials.of(Confused(connection))


def test_a_caller_that_executes_another_program_is_gone(
    peer: Any, connection: socket.socket, identify: Identify
) -> None:
    credentials = identify(connection)
    peer.become("/bin/sleep", "60")
    with pytest.raises(CallerGoneError, match="has executed another program"):
        credentials.verify_still_same()


def test_executing_before_the_connection_is_taken_up_is_not_seen(peer: Any, connection: socket.socket) -> None:
    """The limit PeerCredentials documents: what connected was another program, and no kernel fact tells."""
    peer.become("/bin/sleep", "60")
    credentials = PeerCredentials.of(connection)
    assert credentials.executable is not None
    assert credentials.executable.inode == Path("/bin/sleep").stat().st_ino
    credentials.verify_still_same()


def test_a_program_replaced_on_disk_is_still_the_same_caller(
    peer: Any, listener: socket.socket, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    peer.become(str(program), "60")
    connection, _ = listener.accept()
    with connection:
        credentials = PeerCredentials.of(connection)
        program.unlink()
        credentials.verify_still_same()


@needs_root
@pytest.mark.parametrize("drop", ["os.setuid(12345)", "os.setgid(12345)", "os.seteuid(12345)", "os.setegid(12345)"])
def test_a_caller_that_changed_user_or_group_is_gone(
    peer: Any, connection: socket.socket, identify: Identify, drop: str
) -> None:
    credentials = identify(connection)
    peer.tell(drop)
    with pytest.raises(CallerGoneError, match="connected as 0:0 and is"):
        credentials.verify_still_same()


@needs_root
def test_a_caller_that_changed_user_before_it_was_taken_up_is_gone(peer: Any, connection: socket.socket) -> None:
    peer.tell("os.setuid(12345)")
    with pytest.raises(CallerGoneError, match="connected as 0:0 and is 12345:0 now"):
        PeerCredentials.of(connection)


@needs_root
def test_a_caller_with_hidden_memory_is_identified_all_the_same(peer: Any, connection: socket.socket) -> None:
    peer.tell("ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)")
    assert Path(f"/proc/{peer.pid}").stat().st_uid == 0
    PeerCredentials.of(connection).verify_still_same()


@pytest.mark.parametrize(
    ("identity", "id_map", "ambiguous"),
    [
        (0, ALL, False),
        (65534, ALL, False),  # the first user namespace: nobody is somebody
        (65534, CONTAINER, True),
        (65533, CONTAINER, False),
        (65534, "", True),
        (65534, "0 0 1\n", True),
        (65534, "0 0 4294967294\n", True),
        (65534, "0 0 65534\n65534 65534 4294901761\n", False),  # every id, in two pieces
        (0xFFFFFFFF, ALL, True),
    ],
)
def test_the_overflow_id_means_nobody_only_where_every_id_has_a_name(
    identity: int, id_map: str, ambiguous: bool
) -> None:
    assert is_ambiguous(identity, 65534, id_map) is ambiguous


def test_groups_that_have_no_number_here_are_dropped() -> None:
    assert unambiguous_gids((1, 2, 0xFFFFFFFF)) == (1, 2)


OUTSIDE = """
import socket, sys
from icp_common.peer_credentials import PeerCredentials
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("listening", flush=True)
    connection, _ = listener.accept()
    with connection:
        try:
            print(PeerCredentials.of(connection))
        except Exception as error:
            print(type(error).__name__, error)
"""

CLIENT = """
import os, socket, sys
if os.geteuid() == 0 and sys.argv[2] != "0":
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.recv(1)
"""


@pytest.mark.parametrize(
    ("options", "uid", "words"),
    [
        (("-U", "-r"), "12345", "the peer's uid has no number in this daemon's user namespace (65534"),
        (("-U", "-r", "-p", "-f", "--mount-proc"), "0", "the peer is outside of this daemon's pid namespace"),
    ],
)
def test_a_daemon_inside_namespaces_refuses_peers_outside(
    short_path: Path,
    import_path: Callable[[dict[str, str]], dict[str, str]],
    can_unshare: Callable[..., bool],
    options: tuple[str, ...],
    uid: str,
    words: str,
) -> None:
    """Threat: such peers are all pid 0 and uid 65534, and so all alike."""
    if not can_unshare(*options):
        pytest.skip("making namespaces is not permitted here (unshare)")
    if os.geteuid() != 0 and uid != "0":
        pytest.skip("becoming another user needs root")
    path = short_path / "s"
    short_path.chmod(0o755)
    with subprocess.Popen(
        ["unshare", *options, sys.executable, "-c", OUTSIDE, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=import_path(dict(os.environ)),
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "listening\n"
        path.chmod(0o777)
        subprocess.run([sys.executable, "-c", CLIENT, str(path), uid], check=True, timeout=60)
        answer = daemon.stdout.read()
    assert answer.startswith(f"{UnidentifiablePeerError.__name__} {words}")


def test_what_is_no_unix_socket_has_no_peer() -> None:
    left, right = socket.socketpair()
    with left, right, socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as connection, pytest.raises(UnidentifiablePeerError):
            PeerCredentials.of(connection)
        assert PeerCredentials.of(left).pid == PeerCredentials.of(right).pid == os.getpid()


@pytest.mark.parametrize(
    ("ucred", "words"),
    [
        ((0, 0, 0), "outside of this daemon's pid namespace"),
        ((-1, 0, 0), "outside of this daemon's pid namespace"),
        ((1, 0xFFFFFFFF, 0), "the peer's uid has no number"),
        ((1, 0, 0xFFFFFFFF), "the peer's gid has no number"),
    ],
)
def test_credentials_that_name_nobody_are_refused(ucred: tuple[int, int, int], words: str) -> None:
    class Answering:
        def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
            return struct.pack("=iII", *ucred)

    with pytest.raises(UnidentifiablePeerError, match=words):
        PeerCredentials.of(Answering())


def test_no_descriptor_is_left_open(connection: socket.socket, peer: Any) -> None:
    def count() -> int:
        gc.collect()  # what earlier tests left behind must not be closed in the middle of this one
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(10):
        PeerCredentials.of(connection).close()
        PeerCredentials.of(connection)
    assert count() == before
    peer.end()
    for _ in range(10):
        with pytest.raises(CallerGoneError):
            PeerCredentials.of(connection)
    assert count() == before
