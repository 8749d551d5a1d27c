import grp
import hashlib
import logging
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.spire.selectors import Selector, only_borrowable
from icp_agent.peer_tracker import attest_peer
from icp_agent.workloadattestors.digests import ExecutableDigests, UndigestableError
from icp_agent.workloadattestors.registry import LATER, WORKLOAD_ATTESTORS
from icp_agent.workloadattestors.unix import UnixAttestor, read
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.telemetry import Telemetry

pytestmark = pytest.mark.anyio
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


def texts(selectors: frozenset[Selector], *kinds: str) -> list[str]:
    found = sorted(selector.value for selector in selectors)
    return [text for text in found if not kinds or text.split(":")[0] in kinds]


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def take_up(listener: socket.socket) -> Iterator[Callable[[], PeerCredentials]]:
    """Accept the connection that waits, and identify its peer."""
    accepted: list[socket.socket] = []

    def accept() -> PeerCredentials:
        connection, _ = listener.accept()
        accepted.append(connection)
        return PeerCredentials.of(connection)

    yield accept
    for connection in accepted:
        connection.close()


TakeUp = Callable[[], PeerCredentials]


@pytest.fixture
def sleep(tmp_path: Path) -> Path:
    """A program of our own."""
    program = tmp_path / "sleep"
    shutil.copy("/bin/sleep", program)
    return program


def test_the_registry_names_it() -> None:
    assert WORKLOAD_ATTESTORS["unix"] is read
    assert UnixAttestor.name == "unix"
    assert not LATER & WORKLOAD_ATTESTORS.keys()


async def test_user_and_groups(peer: Any, take_up: TakeUp) -> None:
    selectors = await UnixAttestor().attest(take_up())
    uid, gid = os.geteuid(), os.getegid()
    assert set(texts(selectors, "uid", "gid")) == {f"uid:{uid}", f"gid:{gid}"}
    assert texts(selectors, "user") == [f"user:{user.pw_name}" for user in pwd.getpwall() if user.pw_uid == uid][:1]
    assert (
        texts(selectors, "group") == [f"group:{group.gr_name}" for group in grp.getgrall() if group.gr_gid == gid][:1]
    )
    assert texts(selectors, "path", "sha256") == []
    assert {selector.type for selector in selectors} == {"unix"}


@needs_root
async def test_effective_ids_and_supplementary_groups(start_peer: Callable[..., Any], take_up: TakeUp) -> None:
    group = grp.getgrgid(1)
    with start_peer("setpriv", "--groups", "1,54321", "--regid", "12345", "--reuid", "0", "--") as peer:
        peer.tell("os.setresuid(0, 0, 12345)")  # real and saved ids are nobody's business
        selectors = await UnixAttestor().attest(take_up())
    assert texts(selectors) == sorted(
        [
            "gid:12345",
            f"supplementary_group:{group.gr_name}",
            "supplementary_gid:1",
            "supplementary_gid:54321",
            "uid:0",
            "user:root",
        ]
    )


@needs_root
async def test_ids_without_names_have_no_name(peer: Any, take_up: TakeUp) -> None:
    take_up()
    peer.path.parent.chmod(0o755)
    peer.tell("os.setgroups([]); os.setgid(54321); os.setuid(54321)")
    peer.tell("s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])")
    assert texts(await UnixAttestor().attest(take_up())) == ["gid:54321", "uid:54321"]


async def test_path_and_digest_of_what_runs(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    peer.become(str(sleep), "60")
    selectors = await UnixAttestor(discover_path=True).attest(take_up())
    assert texts(selectors, "path", "sha256") == [f"path:{sleep}", f"sha256:{sha256(sleep)}"]


async def test_the_path_is_where_the_file_is_and_not_the_link_to_it(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    link = sleep.with_name("link")
    link.symlink_to(sleep)
    peer.become(str(link), "60")
    selectors = await UnixAttestor(discover_path=True).attest(take_up())
    assert texts(selectors, "path") == [f"path:{sleep}"]


@pytest.mark.parametrize(("limit", "hashed"), [(0, True), (-1, False), (10, False), (-5, False), (None, True)])
async def test_the_size_limit(peer: Any, take_up: TakeUp, sleep: Path, limit: int | None, hashed: bool) -> None:
    peer.become(str(sleep), "60")
    size = sleep.stat().st_size
    telemetry = Telemetry()
    attestor = UnixAttestor(discover_path=True, size_limit=size if limit is None else limit, telemetry=telemetry)
    selectors = await attestor.attest(take_up())
    assert bool(texts(selectors, "sha256")) is hashed
    assert texts(selectors, "path") == [f"path:{sleep}"]
    omitted = telemetry.counter("workload_attestor_unix_omitted_total", "").value(kind="sha256")
    assert omitted == (1 if limit == 10 else 0)


async def test_one_byte_over_the_limit_is_over(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    peer.become(str(sleep), "60")
    attestor = UnixAttestor(discover_path=True, size_limit=sleep.stat().st_size - 1)
    assert texts(await attestor.attest(take_up()), "sha256") == []


async def test_what_is_left_out_is_said_aloud_once(
    peer: Any, take_up: TakeUp, sleep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer.become(str(sleep), "60")
    credentials = take_up()
    attestor = UnixAttestor(discover_path=True, size_limit=10)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await attestor.attest(credentials)
    assert caplog.text.count("larger than workload_size_limit (10 bytes)") == 1


async def test_a_program_that_was_replaced_has_a_digest_and_no_path(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    peer.become(str(sleep), "60")
    credentials = take_up()
    ran = sha256(sleep)
    sleep.rename(sleep.with_name("old"))
    shutil.copy("/bin/cat", sleep)
    selectors = await UnixAttestor(discover_path=True).attest(credentials)
    assert texts(selectors, "path", "sha256") == [f"path:{sleep.with_name('old')}", f"sha256:{ran}"]
    sleep.with_name("old").unlink()
    selectors = await UnixAttestor(discover_path=True).attest(credentials)
    assert texts(selectors, "path", "sha256") == [f"sha256:{ran}"]


async def test_a_file_named_as_if_deleted_is_not_what_runs(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    peer.become(str(sleep), "60")
    credentials = take_up()
    shutil.copy("/bin/cat", f"{sleep} (deleted)")
    sleep.unlink()
    selectors = await UnixAttestor(discover_path=True).attest(credentials)
    assert texts(selectors, "path") == []


async def test_a_path_that_is_no_text_is_left_out(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    odd = sleep.rename(os.fsdecode(os.fsencode(sleep) + b"\xff"))
    peer.become(str(odd), "60")
    selectors = await UnixAttestor(discover_path=True).attest(take_up())
    assert texts(selectors, "path") == []
    assert texts(selectors, "sha256")


async def test_a_bind_mount_does_not_lend_its_path(
    listener: socket.socket,
    start_peer: Callable[..., Any],
    take_up: TakeUp,
    can_unshare: Callable[..., bool],
    sleep: Path,
) -> None:
    """Threat 2: in a mount namespace of its own any program appears as `/usr/bin/sort`."""
    if not can_unshare("-U", "-r", "-m"):
        pytest.skip("making namespaces is not permitted here (unshare)")
    disguise = f'mount --bind {sleep} /usr/bin/sort && exec "$0" "$@"'
    with start_peer("unshare", "-U", "-r", "-m", "sh", "-c", disguise) as peer:
        peer.become("/usr/bin/sort", "60")
        credentials = take_up()
        assert credentials.process.executable_path() == "/usr/bin/sort"  # the disguise works on whoever trusts it
        selectors = await attest_peer(credentials, [UnixAttestor(discover_path=True)], deadline=60)
    assert texts(selectors, "path") == []
    assert texts(selectors, "sha256") == [f"sha256:{sha256(sleep)}"]
    assert sha256("/usr/bin/sort") != sha256(sleep)


async def test_no_path_from_another_mount_namespace_even_where_it_would_be_right(
    start_peer: Callable[..., Any], take_up: TakeUp, can_unshare: Callable[..., bool], sleep: Path
) -> None:
    if not can_unshare("-U", "-r", "-m"):
        pytest.skip("making namespaces is not permitted here (unshare)")
    with start_peer("unshare", "-U", "-r", "-m") as peer:
        peer.become(str(sleep), "60")
        selectors = await UnixAttestor(discover_path=True).attest(take_up())
    assert texts(selectors, "path", "sha256") == [f"sha256:{sha256(sleep)}"]


async def test_path_and_digest_can_be_borrowed_by_any_process_of_the_user(
    peer: Any, listener: socket.socket, sleep: Path
) -> None:
    """Threat 1, the limit as it is: connect, leave the socket to a child, execute the program to be taken for.

    Nothing the kernel tells of the caller changes but what it runs, and the child reads the answer. So entries made of
    `path` and `sha256` alone get a warning at creation (`only_borrowable`), and should name the user.
    """
    got = sleep.with_name("got")
    peer.tell(
        "if os.fork() == 0:\n"
        "    answer = s.recv(100)\n"
        f"    open({str(got)!r} + '.part', 'wb').write(answer)\n"
        f"    os.rename({str(got)!r} + '.part', {str(got)!r})\n"
        "    os._exit(0)"
    )
    peer.become(str(sleep), "60")
    connection, _ = listener.accept()
    with connection:
        credentials = PeerCredentials.of(connection)
        selectors = await attest_peer(credentials, [UnixAttestor(discover_path=True)], deadline=60)
        assert texts(selectors, "path", "sha256") == [f"path:{sleep}", f"sha256:{sha256(sleep)}"]
        assert only_borrowable([each for each in selectors if each.value.startswith(("path:", "sha256:"))])
        assert not only_borrowable(selectors)  # with the user it names whom to trust
        connection.send(b"an identity")
        with anyio.fail_after(60):
            while not got.exists():
                await anyio.sleep(0.01)
    assert got.read_bytes() == b"an identity"


async def test_what_runs_now_is_looked_at_and_not_what_ran_before(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    """Threat 1: a digest taken of one program is not given to the next one of the same process."""
    attestor = UnixAttestor(discover_path=True)
    peer.tell("t = socket.socket(socket.AF_UNIX); t.connect(sys.argv[1]); os.set_inheritable(t.fileno(), True)")
    first = take_up()
    before = await attest_peer(first, [attestor], deadline=60)
    peer.become(str(sleep), "60")
    with pytest.raises(CallerGoneError):
        await attest_peer(first, [attestor], deadline=60)
    after = await attest_peer(take_up(), [attestor], deadline=60)
    assert texts(after, "sha256") == [f"sha256:{sha256(sleep)}"]
    assert texts(before, "sha256") != texts(after, "sha256")


def test_a_digest_is_remembered_for_one_process_and_state_alone(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    digests = ExecutableDigests(0)
    peer.become(str(sleep), "60")
    credentials = take_up()
    facts = credentials.verify_still_same()
    digest = digests.digest(credentials, facts)
    assert digests.digest(credentials, facts) == digest == sha256(sleep)
    assert len(digests) == 1
    sleep.chmod(0o700)  # its state: the file is read again
    assert digests.digest(credentials, credentials.verify_still_same()) == digest
    assert len(digests) == 2


def test_what_is_remembered_is_bounded(take_up: TakeUp, start_peer: Callable[..., Any]) -> None:
    digests = ExecutableDigests(0, remembered=3)
    for _ in range(5):
        with start_peer():
            credentials = take_up()
            digests.digest(credentials, credentials.verify_still_same())
    assert len(digests) == 3


def test_facts_that_are_not_those_of_the_process_any_more_are_refused(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    credentials = take_up()
    facts = credentials.verify_still_same()
    peer.become(str(sleep), "60")
    with pytest.raises(CallerGoneError, match="has executed another program"):
        ExecutableDigests(0).digest(credentials, facts)
    peer.end()
    with pytest.raises(CallerGoneError):
        ExecutableDigests(0).digest(credentials, facts)


@needs_root
def test_what_we_may_not_look_at_has_no_digest_and_no_path(peer: Any, listener: socket.socket) -> None:
    code = (
        "import asyncio, os, socket, sys\n"
        "from icp_agent.workloadattestors.unix import UnixAttestor\n"
        "from icp_common.peer_credentials import PeerCredentials\n"
        "connection = socket.socket(fileno=int(sys.argv[1]))\n"
        "ours, _ = socket.socketpair()\n"  # once as root, so that all is imported that another user may not read
        "asyncio.run(UnixAttestor(discover_path=True).attest(PeerCredentials.of(ours)))\n"
        "os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        "selectors = asyncio.run(UnixAttestor(discover_path=True).attest(PeerCredentials.of(connection)))\n"
        "print(*sorted(s.value.split(':')[0] for s in selectors))\n"
    )
    connection, _ = listener.accept()
    with connection:
        ended = subprocess.run(
            [os.fspath(Path(peer.process.args[0])), "-c", code, str(connection.fileno())],
            pass_fds=[connection.fileno()],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert ended.stdout.split() == ["gid", "group", "uid", "user"]
    assert "Selector left out" in ended.stderr


async def test_a_caller_that_ended_is_gone(peer: Any, take_up: TakeUp) -> None:
    credentials = take_up()
    peer.end()
    with pytest.raises(CallerGoneError):
        await UnixAttestor(discover_path=True).attest(credentials)


async def test_hashing_leaves_the_loop_free(peer: Any, take_up: TakeUp, sleep: Path) -> None:
    with sleep.open("ab") as file:
        file.truncate(200 << 20)
    peer.become(str(sleep), "60")
    credentials = take_up()
    ticks = 0
    finished = anyio.Event()

    async def attest() -> None:
        selectors = await UnixAttestor(discover_path=True).attest(credentials)
        assert texts(selectors, "sha256")
        finished.set()

    async with anyio.create_task_group() as group:
        group.start_soon(attest)
        with anyio.fail_after(60):
            while not finished.is_set():
                await anyio.sleep(0)
                ticks += 1
    assert ticks > 10


def test_the_error_says_what_is_wrong(peer: Any, take_up: TakeUp) -> None:
    credentials = take_up()
    with pytest.raises(UndigestableError, match="larger than workload_size_limit"):
        ExecutableDigests(1).digest(credentials, credentials.verify_still_same())
