"""gevent: a process that is patched refuses TLS with SVIDs in words, before a byte, whatever the order of imports."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import authsec_sdk

pytest.importorskip("gevent")


def run(program):
    """In a process of its own: patching is for ever."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(authsec_sdk.__file__).parents[1])},
    )


@pytest.mark.parametrize("patch", ["patch_all()", "patch_all(ssl=False)", "patch_ssl()"])
def test_a_patched_process_refuses_at_import_and_says_what_to_do(patch):
    done = run(f"""
        from gevent import monkey
        monkey.{patch}
        import authsec_sdk.tls
    """)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: authsec_sdk.tls does not work safely")
    assert "gevent has replaced its sockets" in last
    assert "not patched" in last


def test_other_patches_are_none_of_its_business():
    done = run("""
        from gevent import monkey
        monkey.patch_all(socket=False, ssl=False, select=False)
        import authsec_sdk.tls
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_that_is_patched_afterwards_refuses_each_socket_before_a_byte():
    """gevent warns of that order itself."""
    done = run("""
        import socket
        from authsec_sdk.authz import authorize_id
        from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
        from authsec_sdk.testing import TestCA
        from authsec_sdk.tls import ContextSettingError, mtls_client_context

        ca = TestCA("a.test")
        source = X509ContextHolder(X509Context((ca.svid("/x"),), BundleSet.of(ca.bundle())))
        client = mtls_client_context(source, authorize_id("spiffe://a.test/server"))
        from gevent import monkey
        monkey.patch_all()
        ours, theirs = socket.socketpair()
        try:
            client.wrap_socket(ours)
        except ContextSettingError as error:
            print(error)
        theirs.setblocking(False)
        try:
            print(theirs.recv(1))
        except BlockingIOError:
            print("nothing was sent")
    """)
    assert done.returncode == 0, done.stderr
    words, sent = done.stdout.splitlines()
    assert "replaced by gevent" in words
    assert "not patched" in words
    assert sent == "nothing was sent"
