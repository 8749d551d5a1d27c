"""What each kind of context presents and asks for."""

import logging
import ssl

import pytest

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, NoIdentityError, NotReadyError, SourceClosedError
from authsec_sdk.spiffe import X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import (
    IdentityUnavailableError,
    PeerVerificationError,
    mtls_server_context,
    tls_client_context,
    tls_server_context,
    unsafe_bootstrap_client_context,
)


@pytest.fixture
def bundles_only(world, snapshot):
    return X509ContextHolder(snapshot(None, world.ca))


def test_a_tls_client_needs_bundles_only_and_presents_nothing(world, shake, bundles_only):
    client = tls_client_context(bundles_only, authorize_id("spiffe://a.test/server"))
    server = world.server(client_certificate="request")
    pipe = shake(server, client)
    assert pipe.done
    assert str(pipe.client.peer_spiffe_id) == "spiffe://a.test/server"
    assert pipe.server.peer_spiffe_id is None
    assert pipe.server.getpeercert(True) is None
    assert pipe.to_server() == b"ping"


def test_a_tls_client_refuses_as_others_do(world, shake, bundles_only, snapshot):
    client = tls_client_context(bundles_only, authorize_id("spiffe://a.test/other"))
    assert isinstance(shake(tls_server_context(world.server_source), client).client_error, PeerVerificationError)
    bundles_only.publish(snapshot(None, TestCA("a.test")))
    client = tls_client_context(bundles_only, authorize_member_of("a.test"))
    assert isinstance(shake(tls_server_context(world.server_source), client).client_error, PeerVerificationError)
    assert client.rejections == 1


def test_a_requiring_server_refuses_a_client_that_presents_nothing(world, shake, bundles_only):
    pipe = shake(world.server(), tls_client_context(bundles_only, authorize_member_of("a.test")))
    assert isinstance(pipe.server_error, PeerVerificationError)


def test_a_requesting_server_checks_every_certificate_it_gets(world, shake, foreign):
    asked = []
    server = world.server(asked.append, client_certificate="request")
    assert server.verify_mode is ssl.CERT_OPTIONAL
    pipe = shake(server, world.client())
    assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"
    assert len(asked) == 1
    for credential in (
        TestCA("a.test").credential("/client"),
        world.ca.credential("/client", ca=True),
        TestCA("b.test").credential("spiffe://a.test/client"),
    ):
        assert isinstance(shake(server, foreign(credential)).server_error, PeerVerificationError)
    assert shake(server, foreign(None)).server_error is None
    assert len(asked) == 1
    refusing = world.server(authorize_id("spiffe://a.test/other"), client_certificate="request")
    assert isinstance(shake(refusing, world.client()).server_error, PeerVerificationError)
    assert shake(refusing, foreign(None)).server_error is None


def test_a_tls_server_asks_for_nothing(world, shake, foreign):
    server = tls_server_context(world.server_source, alpn=("h2",))
    pipe = shake(server, world.client(alpn=("h2",)))
    assert pipe.done
    assert pipe.server.peer_spiffe_id is None
    assert str(pipe.client.peer_spiffe_id) == "spiffe://a.test/server"
    assert shake(server, foreign(TestCA("b.test").credential("/whoever"))).server_error is None


def test_the_bootstrap_client_believes_anybody_of_the_right_name_and_warns(world, shake, foreign, caplog):
    with caplog.at_level(logging.WARNING):
        client = unsafe_bootstrap_client_context(authorize_id("spiffe://a.test/spire/server"))
    assert "without verification" in caplog.text
    assert client.verify_mode is ssl.CERT_NONE
    anybody = TestCA("a.test")
    pipe = shake(foreign(anybody.credential("/spire/server"), server=True), client)
    assert pipe.done
    assert str(pipe.client.peer_spiffe_id) == "spiffe://a.test/spire/server"
    for credential in (
        anybody.credential("/other"),
        anybody.credential("/spire/server", ca=True),
        anybody.credential("/spire/server", uris=()),
    ):
        error = shake(foreign(credential, server=True), client).client_error
        assert isinstance(error, PeerVerificationError)
    assert client.rejections == 3


def test_a_server_must_say_what_it_asks_for(world):
    with pytest.raises(CallerError, match="'require' or 'request'"):
        mtls_server_context(world.server_source, authorize_member_of("a.test"), client_certificate="optional")


def test_a_source_that_is_not_ready_fails_the_connection_and_not_the_context(world, shake, snapshot):
    world.server_source = X509ContextHolder()
    server = world.server()
    with pytest.raises(IdentityUnavailableError) as caught:
        shake(server, world.client())
    assert isinstance(caught.value.reason, NotReadyError)
    assert isinstance(caught.value, ssl.SSLError)
    with pytest.raises(IdentityUnavailableError):
        server.get_ca_certs()
    world.server_source.publish(snapshot(world.ca.svid("/server"), world.ca))
    assert shake(server, world.client()).done


def test_a_closed_source_ends_new_connections(world, shake):
    server, client = world.server(), world.client()
    pipe = shake(server, client)
    world.client_source.close()
    with pytest.raises(IdentityUnavailableError) as caught:
        shake(server, client)
    assert isinstance(caught.value.reason, SourceClosedError)
    with pytest.raises(IdentityUnavailableError):
        shake(server, client.view(alpn=("h2",)))
    assert pipe.to_server() == b"ping"


def test_without_an_identity_there_is_no_mutual_tls(world, shake, snapshot, bundles_only):
    world.client_source = bundles_only
    client = world.client()
    with pytest.raises(IdentityUnavailableError) as caught:
        shake(world.server(), client)
    assert isinstance(caught.value.reason, NoIdentityError)
    bundles_only.publish(snapshot(world.ca.svid("/client"), world.ca))
    assert shake(world.server(), client).done


def test_errors_that_servers_survive_can_be_pickled(world, shake):
    import pickle

    error = shake(world.server(), world.client(authorize_id("spiffe://a.test/other"))).client_error
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.spiffe_id == error.spiffe_id
