import gc
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp_common.process import (
    Process,
    ProcessGoneError,
    ProcessUnreadableError,
    own_mount_namespace,
    parse_start_time,
    parse_status,
)

FIELDS = " ".join(str(number) for number in range(4, 60))


def test_facts_are_those_of_the_process(peer: Any) -> None:
    with Process(peer.pid) as process:
        facts = process.facts()
        assert (facts.uid, facts.gid) == (os.geteuid(), os.getegid())
        assert facts.supplementary_gids == tuple(sorted(os.getgroups()))
        assert facts.executable is not None
        assert facts.executable.inode == Path(sys.executable).stat().st_ino
        assert facts.mount_namespace == own_mount_namespace()
        assert process.executable_path() == os.path.realpath(sys.executable)
        assert facts.same_as(process.facts())


def test_a_program_cannot_forge_its_start_time_by_its_name(peer: Any) -> None:
    with Process(peer.pid) as process:
        peer.tell("open('/proc/self/comm', 'w').write('a) R 1 2 3 (')")
        assert ") R 1 2" in Path(f"/proc/{peer.pid}/stat").read_text()
        assert process.facts().start_time == process.start_time


@pytest.mark.parametrize(
    ("stat", "time"),
    [
        (f"7 (sh) S {FIELDS}", 22),
        (f"7 (a) R 1 2) S {FIELDS}", 22),
        (f"7 () S {FIELDS}", 22),
        (f"7 (\n) S 0) S {FIELDS}", 22),
    ],
)
def test_the_start_time_is_field_22(stat: str, time: int) -> None:
    assert parse_start_time(stat.encode(), 7) == time


@pytest.mark.parametrize("stat", ["", "7 (sh S 1 2", "7 (sh) S 1 2", f"7 (sh) S {FIELDS}".replace("22", "x")])
def test_a_stat_line_of_another_form_is_refused(stat: str) -> None:
    with pytest.raises(ProcessUnreadableError, match="unknown form"):
        parse_start_time(stat.encode(), 7)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_zombie_is_gone(state: str) -> None:
    with pytest.raises(ProcessGoneError):
        parse_start_time(f"7 (sh) {state} {FIELDS}".encode(), 7)


def test_status_gives_the_effective_ids() -> None:
    status = b"Name:\tUid: 9\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 20 \nX\n"
    assert parse_status(status, 7) == (2, 6, (10, 20))
    assert parse_status(status.replace(b"10 20 ", b" "), 7) == (2, 6, ())


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"Gid:\t5\t6\nGroups:\t\n",
        b"Uid:\t1\t2\nGroups:\t\n",
        b"Uid:\t1\t2\nGid:\t5\t6\n",
        b"Uid:\t1\nGid:\t5\t6\nGroups:\t\n",
        b"Uid:\t1\t2\nGid:\t5\tx\nGroups:\t\n",
        b"Uid:\t1\t2\nGid:\t5\t6\nGroups:\t1 y\n",
    ],
)
def test_a_status_of_another_form_is_refused(status: bytes) -> None:
    with pytest.raises(ProcessUnreadableError, match="unknown form"):
        parse_status(status, 7)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_start_time, parse_status):
        try:
            parse(data, 1)
        except (ProcessGoneError, ProcessUnreadableError):
            continue


@pytest.mark.parametrize("with_pidfd", [True, False])
def test_a_process_that_ended_is_gone_for_every_read(peer: Any, with_pidfd: bool) -> None:
    with Process(peer.pid, pidfd=os.pidfd_open(peer.pid) if with_pidfd else None) as process:
        peer.end()
        for read in (process.facts, process.executable_path, process.open_executable):
            with pytest.raises(ProcessGoneError):
                read()
        if with_pidfd:
            with pytest.raises(ProcessGoneError):
                process.check_alive()
    with pytest.raises(ProcessGoneError):
        Process(peer.pid)


def test_a_process_not_yet_reaped_is_gone(peer: Any) -> None:
    with Process(peer.pid) as process:
        peer.process.kill()
        os.waitid(os.P_PID, peer.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessGoneError):
            process.facts()
        with pytest.raises(ProcessGoneError):
            Process(peer.pid)


def test_what_was_let_go_of_cannot_be_read() -> None:
    process = Process(os.getpid())
    process.close()
    process.close()
    for read in (process.check_alive, process.facts, process.executable_path, process.open_executable):
        with pytest.raises(ProcessGoneError, match="was let go of"):
            read()


def descriptors() -> int:
    gc.collect()  # what earlier tests left behind must not be closed in the middle of one
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_open(peer: Any) -> None:
    before = descriptors()
    for _ in range(20):
        Process(peer.pid, pidfd=os.pidfd_open(peer.pid)).close()
        Process(peer.pid, pidfd=os.pidfd_open(peer.pid))
    assert descriptors() == before
    pidfd = os.pidfd_open(peer.pid)
    peer.end()
    with pytest.raises(ProcessGoneError):
        Process(peer.pid, pidfd=pidfd)
    assert descriptors() == before


def test_host_proc_is_where_processes_are_looked_up(peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    monkeypatch.setenv("HOST_PROC", str(tmp_path / "proc"))
    with Process(peer.pid) as process:
        assert process.facts().uid == os.geteuid()
    monkeypatch.setenv("HOST_PROC", str(tmp_path / "none"))
    with pytest.raises(ProcessUnreadableError, match="mount /proc without hidepid"):
        Process(peer.pid)


HARDENED = """
import os, socket, sys
from icp_common.process import own_mount_namespace
from icp_common.peer_credentials import PeerCredentials
from icp_common.service import hide_memory
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)
hide_memory()
own_mount_namespace()
a, b = socket.socketpair()
with a, b:
    peer = PeerCredentials.of(a)
    peer.verify_still_same()
    assert peer.pid == os.getpid()
    assert peer.executable is not None
    assert open("/proc/self/fd/" + str(os.memfd_create("key")), "rb").read() == b""
"""


def test_an_ordinary_user_with_hidden_memory_can_still_look_at_itself() -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", HARDENED], env=environ, check=True, timeout=60)


def test_what_we_may_not_see_is_unknown_and_not_an_error(peer: Any, listener: socket.socket) -> None:
    # Another user without rights sees who the process runs as, and neither its executable nor its namespaces.
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    code = (
        "import os; from icp_common.process import Process; os.setgroups([]); os.setgid(12345); os.setuid(12345); "
        f"f = Process({peer.pid}).facts(); assert f.uid == 0; assert f.executable is None; "
        "assert f.mount_namespace is None"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)
