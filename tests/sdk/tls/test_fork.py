"""A forked child: contexts go on there, inherited connections refuse use, and the parent's are left in peace."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import authsec_sdk

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")

SETUP = """
import contextlib, os, socket, ssl, threading
from authsec_sdk.authz import authorize_member_of
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import ConnectionEndedError, mtls_client_context, mtls_server_context

ca = TestCA("a.test")
def snapshot(path): return X509Context((ca.svid(path),), BundleSet.of(ca.bundle()))
server_source, client_source = X509ContextHolder(snapshot("/server")), X509ContextHolder(snapshot("/client"))
server = mtls_server_context(server_source, authorize_member_of("a.test"))
client = mtls_client_context(client_source, authorize_member_of("a.test"))

def connect():
    listener = socket.create_server(("127.0.0.1", 0))
    plain = socket.create_connection(listener.getsockname(), timeout=20)
    accepted, _ = listener.accept()
    listener.close()
    result = []
    thread = threading.Thread(target=lambda: result.append(server.wrap_socket(accepted, server_side=True)))
    thread.start()
    ours = client.wrap_socket(plain)
    thread.join()
    result[0].settimeout(20)
    return ours, result[0]

def in_child(body):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed"

def refuses(use):
    try:
        use()
    except ConnectionEndedError as error:
        assert "belongs to the parent process" in str(error)
    else:
        raise AssertionError("an inherited connection can be used")
"""


def run(script):
    """Fork in a process of its own: pytest's has threads and descriptors that are none of a test's business."""
    root = str(Path(authsec_sdk.__file__).parents[1])
    program = SETUP + textwrap.dedent(script)
    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_inherited_connections_refuse_use_and_the_parents_go_on():
    run("""
        ours, theirs = connect()
        ours.sendall(b"before")
        assert theirs.recv(100) == b"before"

        def body():
            for tls in (ours, theirs):
                for use in (lambda: tls.send(b"x"), lambda: tls.recv(1), tls.unwrap, tls.do_handshake, tls.version):
                    refuses(use)
                tls.close()  # only the descriptor: no goodbye goes out

        in_child(body)
        for sender, receiver in ((ours, theirs), (theirs, ours)):
            sender.sendall(b"after")
            assert receiver.recv(100) == b"after"
    """)


def test_handshakes_that_were_under_way_refuse_use():
    run("""
        pending = client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
        with contextlib.suppress(ssl.SSLWantReadError):
            pending.do_handshake()

        def body():
            refuses(pending.do_handshake)
            refuses(lambda: pending.write(b"x"))

        in_child(body)
        with contextlib.suppress(ssl.SSLWantReadError):
            pending.do_handshake()
    """)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_contexts_go_on_in_the_child_and_take_up_its_updates(version):
    run(f"""
        server.minimum_version = ssl.TLSVersion.{version}
        connect()

        def body():
            ours, theirs = connect()
            assert str(theirs.peer_spiffe_id) == "spiffe://a.test/client"
            server_source.publish(snapshot("/server2"))
            ours, theirs = connect()
            assert str(ours.peer_spiffe_id) == "spiffe://a.test/server2"

        in_child(body)
        ours, theirs = connect()
        assert str(ours.peer_spiffe_id) == "spiffe://a.test/server"
    """)


def test_a_lock_that_another_thread_held_at_the_fork_does_not_hang_the_child():
    run("""
        connect()
        held, done = threading.Event(), threading.Event()

        def hold():
            with server._generations._lock, server._lock, server._verifier._lock:
                held.set()
                done.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(30)

        def body():
            server_source.publish(snapshot("/server2"))
            server.set_alpn_protocols(["h2"])
            ours, theirs = connect()
            assert str(ours.peer_spiffe_id) == "spiffe://a.test/server2"

        in_child(body)
        done.set()
        thread.join()
    """)


def test_a_child_of_a_child_refuses_too():
    run("""
        ours, theirs = connect()

        def body():
            mine, other = connect()
            def deeper():
                refuses(lambda: mine.send(b"x"))
                refuses(lambda: ours.send(b"x"))
            in_child(deeper)
            mine.sendall(b"still mine")
            assert other.recv(100) == b"still mine"

        in_child(body)
    """)
