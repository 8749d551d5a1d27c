"""An identity and federated bundles as one source: what may be added, what never changes, and that handshakes know."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.errors import NotReadyError, SourceClosedError
from authsec_sdk.federation import BundleEndpoint, FederatedX509Source, FederationSource
from authsec_sdk.federation.combined import merge
from authsec_sdk.spiffe import BundleSet, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.tls import PeerVerificationError, mtls_client_context, mtls_server_context
from authsec_sdk.workloadapi import X509Source

pytestmark = pytest.mark.anyio
Make = Callable[..., Any]

A, B, C = (TestCA(name) for name in ("a.test", "b.test", "c.test"))
SVID = A.svid("/workload")
# A domain's own bundle, and what somebody else would like it to be.
BUNDLES = [X509Bundle(domain.trust_domain, (authority.certificate,)) for domain in (A, B, C) for authority in (A, B, C)]
sets = st.lists(st.sampled_from(BUNDLES), max_size=3, unique_by=lambda bundle: bundle.trust_domain).map(BundleSet)


@given(sets, sets, st.booleans())
def test_what_may_be_added(own: BundleSet[X509Bundle], federated: BundleSet[X509Bundle], identified: bool) -> None:
    local = X509Context((SVID,) if identified else (), own)
    both = merge(local, federated)
    assert both.svids == local.svids
    for domain, bundle in own.items():
        assert both.bundles[domain] == bundle
    for domain, bundle in both.bundles.items():
        assert bundle == own.get(domain, federated.get(domain))
    assert not identified or both.bundles.get(A.trust_domain) == own.get(A.trust_domain)
    assert set(both.bundles) >= set(federated) - ({A.trust_domain} if identified else set())
    assert both is local or both.bundles != own


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """One greeting over a real socket, or what the client's side says instead."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(20)
                with server.wrap_socket(connection, server_side=True) as secured:
                    secured.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=20) as connection,
                client.wrap_socket(connection) as secured,
            ):
                assert secured.recv(5) == b"hello"
        finally:
            thread.join()


def works(client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    try:
        handshake(client, server)
    except (OSError, AssertionError):  # an AssertionError: the server refused us after our side of the handshake
        return False
    return True


def holder(ca: TestCA, *others: TestCA, path: str = "/workload") -> X509ContextHolder:
    return X509ContextHolder(X509Context((ca.svid(path),), BundleSet.of(ca.bundle(), *(o.bundle() for o in others))))


async def test_two_domains_meet_through_endpoints(publisher: Make, site: Make, quick: Any, eventually: Any) -> None:
    theirs = publisher("b.test")
    ours = TestCA("a.test")
    endpoint = site(theirs.tls(), theirs.answer)
    with FakeWorkloadAPI() as agent:
        agent.set(ours.svid("/client"), bundles=[ours.bundle()])
        federation = FederationSource(
            BundleEndpoint.spiffe("b.test", endpoint.url, theirs.server_id, bundle=theirs.ca.bundle()), refresh=quick
        )
        async with X509Source(agent.address) as local, federation:
            source = FederatedX509Source(local, federation)
            client = mtls_client_context(source, authorize_member_of("b.test"))
            handshake(client, mtls_server_context(holder(theirs.ca, ours), authorize_member_of("a.test")))
            theirs.ca.rotate()  # their new root reaches the context that is already in use
            await eventually(
                lambda: works(client, mtls_server_context(holder(theirs.ca, ours), authorize_member_of("a.test")))
            )
            ours.rotate()  # and our own identity goes on rotating beside it
            ours.remove_old_roots()
            agent.set(ours.svid("/client"), bundles=[ours.bundle()])
            await eventually(
                lambda: works(client, mtls_server_context(holder(theirs.ca, ours), authorize_member_of("a.test")))
            )


async def test_an_endpoint_for_our_own_domain_changes_nothing(
    site: Make, web: Any, publisher: Make, quick: Any, eventually: Any
) -> None:
    """Whoever controls that endpoint would otherwise be whoever it likes in our own domain."""
    evil = publisher("a.test")
    endpoint = site(web.server(), evil.answer)
    own = FederationSource(BundleEndpoint.web("a.test", endpoint.url, ca_file=web.ca_file), refresh=quick)
    ours = TestCA("a.test")
    async with own as federation:
        source = FederatedX509Source(holder(ours), federation)
        assert source.x509_context.bundles.require(ours.trust_domain) == ours.bundle()
        client = mtls_client_context(source, authorize_member_of("a.test"))
        with pytest.raises(PeerVerificationError):
            handshake(client, mtls_server_context(holder(evil.ca), authorize_member_of("a.test")))
        handshake(client, mtls_server_context(holder(ours), authorize_member_of("a.test")))


async def test_a_look_alike_that_is_federated_locks_nobody_out(
    site: Make, web: Any, publisher: Make, quick: Any
) -> None:
    """Threat 15 by way of an endpoint: b.test publishes a root with the name of ours, before its own."""
    ours = TestCA("a.test")
    look_alike = TestCA("b.test", subject=ours.certificate.subject, with_subject_key_id=False)
    theirs = publisher("b.test", x509_authorities=(look_alike.certificate, ours.certificate))

    # One authority names a.test: refused whole, so without that one.
    endpoint = site(web.server(), theirs.answer)
    source = FederationSource(BundleEndpoint.web("b.test", endpoint.url, ca_file=web.ca_file), refresh=quick)
    with pytest.raises(NotReadyError, match=r"names the trust domain a\.test"):
        await source.ready(1)
    await source.aclose()
    theirs.extra["x509_authorities"] = (look_alike.certificate, theirs.ca.certificate)
    async with FederationSource(
        BundleEndpoint.web("b.test", endpoint.url, ca_file=web.ca_file), refresh=quick
    ) as federation:
        combined = FederatedX509Source(holder(ours, path="/client"), federation)
        client = mtls_client_context(combined, authorize_member_of("a.test", "b.test"))
        for _ in range(5):
            handshake(client, mtls_server_context(holder(ours), authorize_member_of("a.test")))
        handshake(client, mtls_server_context(holder(theirs.ca, ours), authorize_member_of("a.test")))


class TestLife:
    def test_without_the_federation_the_identity_stands(self, quick: Any) -> None:
        nobody = FederationSource(BundleEndpoint.web("b.test", "https://127.0.0.1:1/"), refresh=quick)
        local = holder(A)
        source = FederatedX509Source(local, nobody)
        assert source.x509_context is local.x509_context
        nobody.close()
        assert source.x509_context is local.x509_context

    def test_without_an_identity_there_is_nothing(self) -> None:
        local, federation = X509ContextHolder(), holder(B)
        source = FederatedX509Source(local, federation)
        with pytest.raises(NotReadyError):
            _ = source.x509_context
        local.close()
        with pytest.raises(SourceClosedError):
            _ = source.x509_context

    def test_listeners_hear_of_both_and_not_for_ever(self) -> None:
        local, federation = X509ContextHolder(), X509ContextHolder()
        source = FederatedX509Source(local, federation)
        heard: list[X509Context] = []
        remove = source._add_listener(heard.append)
        federation.publish(X509Context((), BundleSet.of(B.bundle())))
        assert heard == []  # no identity yet
        local.publish(X509Context((SVID,), BundleSet.of(A.bundle())))
        assert [set(context.bundles) for context in heard] == [{A.trust_domain, B.trust_domain}]
        assert heard[-1] is source.x509_context
        federation.publish(X509Context((), BundleSet.of(C.bundle())))
        assert set(heard[-1].bundles) == {A.trust_domain, C.trust_domain}
        remove()
        local.publish(X509Context((SVID,), BundleSet.of(A.bundle(), B.bundle())))
        assert len(heard) == 2

    def test_the_observer_is_the_identitys(self) -> None:
        told: list[Any] = []
        local = X509ContextHolder(observer=told.append)
        assert FederatedX509Source(local, holder(B)).observer is not None
