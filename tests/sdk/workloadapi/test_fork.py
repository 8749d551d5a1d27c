"""Threat model 11: a forked child keeps nothing of the parent's streams, and has its own as soon as it wants one."""

import os
import subprocess
import sys
import textwrap

import pytest

from authsec_sdk.testing import FakeWorkloadAPI, TestCA

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

PRELUDE = """
import gc, logging, os, sys, threading, time, warnings
# Python 3.12 warns of every fork of a process with threads; that is what is tested here.
warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
# In debug mode asyncio tells of each step that took long, which on a busy machine says nothing about what is tested.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))
from authsec_sdk.workloadapi import SourcePhase, X509Source

address = sys.argv[1]

def sockets():
    "Inodes of this process's sockets, and its event polls."
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return {fd: target for fd, target in found.items() if "socket:" in target or "eventpoll" in target}

def in_child(work):
    "Fork, run `work` there, and return its exit status."
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            work()
            gc.collect()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid

def ended(pid):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hangs"
"""


def run(program: str, fake: FakeWorkloadAPI, *, options: tuple[str, ...] = ("-X", "dev", "-W", "error")) -> None:
    """Run a program in a process of its own; it fails if anything is written to its error output."""
    result = subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(program), fake.address],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_a_child_that_uses_the_source_has_a_stream_of_its_own(fake: FakeWorkloadAPI) -> None:
    run(
        """
        with X509Source(address) as source:
            known = source.x509_context

            def child():
                assert source.x509_context is known, "what was known is kept"
                assert source.status.healthy
                deadline = time.monotonic() + 30
                while not source.status.connected:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                assert [t.name for t in threading.enumerate()].count("authsec-sdk-sources") == 1
                source.close()
                source.close()

            assert ended(in_child(child)) == 0
            assert source.status.connected
            assert source.status.reconnects == 0, "the parent's stream was not ended by the child"
        """,
        fake,
    )
    assert fake.calls == 2


def test_both_processes_see_the_next_rotation(fake: FakeWorkloadAPI) -> None:
    """With py-spiffe the child keeps the SVID of the moment of the fork for ever."""
    program = """
        with X509Source(address) as source:
            known = source.x509_context

            def child():
                newer = source.wait(50, newer_than=known)
                assert newer.svid.id == known.svid.id
                assert newer.svid != known.svid
                sys.stdout.write(f"{newer.svid.leaf.serial_number}\\n")
                sys.stdout.flush()

            pid = in_child(child)
            newer = source.wait(50, newer_than=known)
            assert ended(pid) == 0
            print(newer.svid.leaf.serial_number)
        """
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), fake.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        fake.wait_until(lambda: fake.streams == 2)
        fake.rotate()
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")
    assert len(set(out.split())) == 1, "the same SVID, each over its own stream"
    assert len(out.split()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed in /proc")
def test_a_child_cannot_read_the_parents_stream(fake: FakeWorkloadAPI) -> None:
    run(
        """
        with X509Source(address) as one, X509Source(address) as other:
            before = sockets()
            assert len(before) >= 4, before

            def child():
                left = sockets()
                assert not left, f"the child holds {left}"
                assert all(os.path.exists(f"/proc/self/fd/{fd}") for fd in before), "the numbers stay taken"
                gc.collect()
                reader, writer = os.pipe()
                one.close()
                gc.collect()
                os.write(writer, b"x")
                assert os.read(reader, 1) == b"x", "nothing that the child finalizes closes what it opened since"

            assert ended(in_child(child)) == 0
            assert sockets() == before
            assert one.status.connected and other.status.connected
            assert one.status.reconnects == other.status.reconnects == 0
        """,
        fake,
    )


def test_a_child_that_changed_its_user_reads_no_key_of_the_parents(fake: FakeWorkloadAPI) -> None:
    """The attack: read whatever the agent sends to the parent, from every descriptor that the parent read it from."""
    program = """
        with X509Source(address) as source:
            known = source.x509_context
            serial = known.svid.leaf.serial_number
            inherited = sockets()
            stop, tell = os.pipe()

            def child():
                os.close(tell)  # so that the parent's end, however it comes, ends this too
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setgid(12345)
                    os.setuid(12345)
                os.set_blocking(stop, False)
                stolen = b""
                while True:
                    for fd in inherited:
                        try:
                            stolen += os.read(fd, 65536)
                        except OSError:
                            continue
                    try:
                        os.read(stop, 1)
                        break
                    except BlockingIOError:
                        continue
                assert stolen == b"", f"the child read {len(stolen)} bytes that were sent to its parent"

            pid = in_child(child)
            print("forked", flush=True)
            for _ in range(20):
                sys.stdin.readline()
                known = source.wait(20, newer_than=known)
                assert known.svid.leaf.serial_number != serial
                print("renewed", flush=True)
            os.write(tell, b"x")
            assert ended(pid) == 0
            assert source.status.reconnects == 0
        """
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), fake.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "forked\n"
            for _ in range(20):
                process.stdin.write("\n")
                process.stdin.flush()
                fake.rotate()
                assert process.stdout.readline() == "renewed\n"
            _, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")


def test_a_child_that_never_uses_the_source_starts_nothing(fake: FakeWorkloadAPI) -> None:
    run(
        """
        with X509Source(address) as source:
            def child():
                time.sleep(0.2)
                assert threading.active_count() == 1
                assert source.status.phase is SourcePhase.NEW
            assert ended(in_child(child)) == 0
        """,
        fake,
    )
    assert fake.calls == 1


def test_children_of_children_and_sources_that_began_late(fake: FakeWorkloadAPI) -> None:
    run(
        """
        source = X509Source(address)

        def grandchild():
            assert source.wait(30).svid.id.path == "/workload"
            source.close()

        def child():
            with X509Source(address):
                source.wait(30)
                assert ended(in_child(grandchild)) == 0
                assert source.status.connected

        assert ended(in_child(child)) == 0
        source.wait(30)
        source.close()
        assert ended(in_child(lambda: None)) == 0
        """,
        fake,
    )


def test_forks_in_the_middle_of_rotations_never_hang(fake: FakeWorkloadAPI) -> None:
    import threading

    stop = threading.Event()

    def rotate() -> None:
        while not stop.is_set():
            fake.rotate()

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        run(
            """
            import ssl
            from authsec_sdk.authz import authorize_member_of
            from authsec_sdk.tls import TLSLimits, mtls_client_context

            with X509Source(address) as source:
                authorizer = authorize_member_of(source.x509_context.svid.id.trust_domain)
                context = mtls_client_context(source, authorizer, limits=TLSLimits(rebuilds_per_second=1e6))
                context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())

                def child():
                    known = source.x509_context
                    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
                    source.wait(30, newer_than=known)
                    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())

                for _ in range(12):
                    assert ended(in_child(child)) == 0
            """,
            fake,
            options=("-W", "error"),  # asyncio's debug mode would say that all this is slow
        )
    finally:
        stop.set()
        rotating.join()


def test_prefork_with_multiprocessing_works(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    """As gunicorn and celery do it: the application makes its source, then the workers are forked."""
    run(
        """
        import multiprocessing

        with X509Source(address) as source:
            def work(queue):
                queue.put(str(source.wait(30).svid.id))
                source.close()

            context = multiprocessing.get_context("fork")
            queue = context.SimpleQueue()
            workers = [context.Process(target=work, args=(queue,)) for _ in range(3)]
            for worker in workers:
                worker.start()
            assert {queue.get() for _ in workers} == {"spiffe://example.org/workload"}
            for worker in workers:
                worker.join(30)
                assert worker.exitcode == 0
        """,
        fake,
    )


def test_a_child_without_dev_null_still_lets_go(fake: FakeWorkloadAPI) -> None:
    """The fallback, tried on descriptors of this process's own."""
    from authsec_sdk.workloadapi.fork import AtFork

    reader, writer = os.pipe()
    duplicate = os.dup(reader)
    at_fork = AtFork()
    at_fork.register(lambda: [duplicate, 999_999], lambda: None)
    at_fork.before()
    at_fork.after_in_parent()
    at_fork.before()
    at_fork.after_in_child()
    os.write(writer, b"secret")
    assert os.read(duplicate, 10) == b"", "it reads /dev/null"
    for descriptor in (reader, writer, duplicate):
        os.close(descriptor)


def test_a_fork_waits_for_critical_sections_of_other_threads_and_not_for_its_own(fake: FakeWorkloadAPI) -> None:
    run(
        """
        from authsec_sdk.workloadapi.fork import at_fork

        inside = False
        started = threading.Event()

        def work():
            global inside
            with at_fork.delayed():
                inside = True
                started.set()
                time.sleep(0.3)
                inside = False

        def child():
            assert not inside
            with at_fork.delayed(), at_fork.lock:
                pass

        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        assert ended(in_child(child)) == 0
        thread.join()
        with at_fork.delayed(), at_fork.lock:  # such as in a signal handler
            assert ended(in_child(child)) == 0
        """,
        fake,
    )


def test_a_child_inherits_no_lock_that_an_observer_holds(fake: FakeWorkloadAPI) -> None:
    """As those of prometheus_client: taken for a moment at each event, in the thread of the sources."""
    run(
        """
        lock = threading.Lock()
        inside, forking = threading.Event(), threading.Event()

        def observer(event):
            with lock:
                inside.set()
                forking.wait(30)
                time.sleep(0.2)  # the fork is under way, and waits

        with X509Source(address, observer=observer, ready_timeout=None) as source:
            assert inside.wait(30)

            def child():
                assert lock.acquire(timeout=10), "held for ever by a thread that is not here"

            forking.set()
            assert ended(in_child(child)) == 0
        """,
        fake,
        options=("-W", "error"),  # asyncio's debug mode would say that all this is slow
    )
