"""A user's SNI callback: what it sees, and what it may swap."""

import ssl

import pytest

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.spiffe import X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import (
    ContextSettingError,
    PeerVerificationError,
    SpiffeSSLContext,
    SpiffeSSLObject,
    mtls_server_context,
    tls_server_context,
)


def test_it_sees_the_connection_and_the_facade_never_an_inner_context(world, shake):
    seen = []
    server = world.server()
    server.sni_callback = lambda connection, name, context: seen.append((connection, name, context))
    assert shake(server, world.client(), server_hostname="one.example").done
    world.rotate_svids()
    assert shake(server.view(), world.client(), server_hostname=None).done
    assert [name for _, name, _ in seen] == ["one.example", None]
    assert seen[0][2] is server
    for connection, _, context in seen:
        assert isinstance(connection, SpiffeSSLObject)
        assert isinstance(context, SpiffeSSLContext)
        assert connection.context is context


def test_it_can_refuse_a_name(world, shake):
    server = world.server()
    server.set_servername_callback(
        lambda _connection, name, _context: None if name == "known.example" else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    )
    assert shake(server, world.client(), server_hostname="known.example").done
    assert not shake(server, world.client(), server_hostname="other.example").done
    server.set_servername_callback(None)
    assert server.sni_callback is None
    assert shake(server, world.client(), server_hostname="other.example").done


def test_wrong_callbacks(world):
    with pytest.raises(TypeError):
        world.server().sni_callback = 3
    with pytest.raises(ValueError, match="client"):
        world.client().sni_callback = lambda *_: None


@pytest.fixture
def tenants(world, snapshot):
    """Two tenants, each its own trust domain, behind one socket: the name chooses, and the default is the first."""
    second = TestCA("b.test")
    first_context = world.server()
    source = X509ContextHolder(snapshot(second.svid("/server"), second))
    second_context = mtls_server_context(source, authorize_member_of("b.test"))

    def choose(connection, name, _context):
        if name == "b.example":
            connection.context = second_context

    first_context.sni_callback = choose
    return first_context, second_context, second


def client_of(world, ca, snapshot, server):
    world.client_source = X509ContextHolder(snapshot(ca.svid("/client"), ca))
    return world.client(authorize_id(server))


def test_identity_trust_and_policy_change_together(world, tenants, shake, snapshot):
    server, second_context, second = tenants
    of_first = client_of(world, world.ca, snapshot, "spiffe://a.test/server")
    of_second = client_of(world, second, snapshot, "spiffe://b.test/server")

    pipe = shake(server, of_second, server_hostname="b.example")
    assert pipe.done
    assert str(pipe.server.peer_spiffe_id) == "spiffe://b.test/client"
    assert pipe.server.context is second_context
    assert shake(server, of_first, server_hostname="a.example").done


def test_no_tenant_gets_in_by_the_other_ones_name(world, tenants, shake, snapshot, foreign):
    server, second_context, second = tenants
    for ca, name in ((world.ca, "b.example"), (second, "a.example")):
        peer = foreign(ca.credential("/client"))
        assert isinstance(shake(server, peer, server_hostname=name).server_error, PeerVerificationError)
    # The second tenant's CA signs an ID of the first one, and asks for either name.
    forged = foreign(second.credential("spiffe://a.test/client"))
    for name in ("a.example", "b.example"):
        assert isinstance(shake(server, forged, server_hostname=name).server_error, PeerVerificationError)
    assert server.rejections == 2
    assert second_context.rejections == 2


def test_a_context_that_requires_a_certificate_refuses_those_who_were_not_asked_for_one(world, shake, foreign):
    asking_nothing = tls_server_context(world.server_source)
    required = world.server()

    def choose(connection, _name, _context):
        connection.context = required

    asking_nothing.sni_callback = choose
    pipe = shake(asking_nothing, foreign(world.client_source.x509_context.svid))
    assert isinstance(pipe.server_error, PeerVerificationError)
    assert "no certificate" in str(pipe.server_error)


def test_a_context_that_demands_tls13_refuses_those_who_agreed_on_less_before(world, shake):
    """OpenSSL settles the version before the callback: without this the default name's leniency would hold for all."""
    lenient, strict = world.server(minimum_version=ssl.TLSVersion.TLSv1_2), world.server()

    def choose(connection, name, _context):
        if name == "strict.example":
            connection.context = strict

    lenient.sni_callback = choose
    old, new = world.client(minimum_version=ssl.TLSVersion.TLSv1_2), world.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(lenient, old, server_hostname="lenient.example").done
    assert shake(lenient, new, server_hostname="strict.example").done
    pipe = shake(lenient, old, server_hostname="strict.example")
    assert isinstance(pipe.server_error, PeerVerificationError)
    assert "1.3" in str(pipe.server_error)


def test_only_a_servers_context_and_only_spiffe_ones(world, begin):
    handshake = begin(world.server(), world.client())
    for wrong in (world.client(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)):
        with pytest.raises(ContextSettingError):
            handshake.server.context = wrong
    with pytest.raises(ContextSettingError, match="server"):
        handshake.client.context = world.server()
