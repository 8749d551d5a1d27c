"""Bundles for who has no identity: the waiting of X509Source, and TLS that verifies and presents nothing."""

import socket
import threading

import anyio
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import NoIdentityError, NotReadyError, SourceClosedError
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.tls import SpiffeSSLContext, peer_spiffe_id, tls_client_context, tls_server_context
from authsec_sdk.workloadapi import SourcePhase, X509BundleSource

pytestmark = pytest.mark.anyio


async def test_bundles_and_no_identity(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    async with X509BundleSource(fake.address) as source:
        context = source.x509_context
        assert context == X509Context((), BundleSet.of(ca.bundle()))
        assert await source.ready() is context
        with pytest.raises(NoIdentityError):
            context.svid  # noqa: B018
        assert source.status.healthy
        assert source.status.connected
        assert source.status.spiffe_id is None
    assert source.status.phase is SourcePhase.CLOSED
    assert not source.status.healthy
    with pytest.raises(SourceClosedError):
        source.x509_context  # noqa: B018


async def test_updates_follow_the_roots(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    async with X509BundleSource(fake.address) as source:
        with anyio.fail_after(30):
            roots = 1
            async for context in source.updates():
                assert len(context.bundles[ca.trust_domain]) == roots
                if roots == 3:
                    break
                roots += 1
                ca.rotate()
                fake.rotate()


def test_threads_wait_and_outages_change_nothing(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    with X509BundleSource(fake.address) as source:
        before = source.wait(30)
        fake.stop()
        assert source.x509_context is before
        ca.rotate()
        fake.rotate()
        fake.start()
        assert len(source.wait(30, newer_than=before).bundles[ca.trust_domain]) == 2


async def test_who_has_nothing_yet_says_of_what(silent: FakeWorkloadAPI) -> None:
    source = X509BundleSource(silent.address)
    with pytest.raises(NotReadyError, match=r"no X\.509 bundles from the agent at .* within 0\.05 s"):
        await source.ready(timeout=0.05)
    await source.aclose()


def _handshake(server: SpiffeSSLContext, client: SpiffeSSLContext) -> str:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname="ignored.invalid") as connection:
            return str(peer_spiffe_id(connection))
    finally:
        ours.close()
        thread.join(30)


def test_tls_verifies_by_the_newest_bundles(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    server_source = X509ContextHolder(X509Context((ca.svid("/server"),), BundleSet.of(ca.bundle())))
    server = tls_server_context(server_source)
    with X509BundleSource(fake.address) as source:
        client = tls_client_context(source, authorize_id("spiffe://example.org/server"))
        assert _handshake(server, client) == "spiffe://example.org/server"
        before = client.generation
        ca.rotate()
        ca.remove_old_roots()
        fake.rotate()
        fake.wait_until(lambda: client.generation != before)  # made from the news, an instant after they are published
        with pytest.raises(OSError, match="certificate"):
            _handshake(server, client)
        server_source.publish(X509Context((ca.svid("/server"),), BundleSet.of(ca.bundle())))
        assert _handshake(server, client) == "spiffe://example.org/server"
