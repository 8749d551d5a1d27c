"""The whole sequence through each stack: identities rotate, roots come and go, policy refuses, and it works again."""

import ssl

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import PeerNotAuthorizedError, UntrustedPeerError
from authsec_sdk.tls import PeerVerificationError


def causes(error):
    """Every exception that a caller can reach from the one it got: libraries wrap ours in their own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def refusal(error):
    return next(each for each in causes(error) if isinstance(each, PeerVerificationError))


def test_both_sides_know_each_other(serve, world):
    with serve(world.server()) as server:
        attempt = server.attempt(world.client())
        assert attempt.error is None
        assert str(attempt.peer) == "spiffe://a.test/server"
        assert attempt.answer == b"spiffe://a.test/client"


def test_new_connections_present_the_new_svid_and_the_server_is_never_restarted(serve, world):
    client = world.client()
    with serve(world.server()) as server:
        seen = []
        for _ in range(3):
            attempt = server.attempt(client)
            assert attempt.answer == b"spiffe://a.test/client"
            assert attempt.leaf == world.server_source.x509_context.svid.chain_der()[0]
            seen.append(attempt.leaf)
            world.rotate_svids()
        assert len(set(seen)) == 3


def test_a_new_root_is_honoured_and_a_removed_one_refused_in_both_directions(serve, world, snapshot):
    server_context, client_context = world.server(), world.client()
    with serve(server_context) as server:
        old_server, old_client = (world.server_source.x509_context.svid, world.client_source.x509_context.svid)
        world.ca.rotate()
        world.publish(world.ca)
        assert server.attempt(client_context).answer == b"spiffe://a.test/client"

        world.ca.remove_old_roots()
        world.server_source.publish(snapshot(world.ca.svid("/server"), world.ca))
        world.client_source.publish(snapshot(old_client, world.ca))
        served = len(server.served)
        refused = server.attempt(client_context)
        assert refused.answer == b""

        world.server_source.publish(snapshot(old_server, world.ca))
        world.client_source.publish(snapshot(world.ca.svid("/client"), world.ca))
        refused = server.attempt(client_context)
        assert isinstance(refusal(refused.error).reason, UntrustedPeerError)
        assert client_context.rejections == 1

        assert len(server.served) == served
        world.publish(world.ca)
        assert server.attempt(client_context).answer == b"spiffe://a.test/client"
    assert server_context.rejections == 1


def test_a_client_refuses_a_server_that_its_authorizer_refuses(serve, world):
    with serve(world.server()) as server:
        attempt = server.attempt(world.client(authorize_id("spiffe://a.test/other")))
        error = refusal(attempt.error)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert isinstance(error.reason, PeerNotAuthorizedError)
        assert str(error.spiffe_id) == "spiffe://a.test/server"
        assert "spiffe://a.test/other" in str(error)
        assert server.served == []


def test_a_server_refuses_a_client_before_the_application_hears_of_it(serve, world):
    told = []
    context = world.server(authorize_id("spiffe://a.test/other"), on_rejected=told.append)
    with serve(context) as server:
        assert server.attempt(world.client()).answer == b""
    assert server.served == []
    assert [str(each.spiffe_id) for each in told] == ["spiffe://a.test/client"]
    assert isinstance(told[0].reason, PeerNotAuthorizedError)
    assert told[0].role == "server"


@pytest.mark.parametrize("minimum", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_a_client_without_a_certificate_is_refused(serve, world, foreign, minimum):
    context = world.server(minimum_version=minimum)
    with serve(context) as server:
        assert server.attempt(foreign(None)).answer == b""
    assert server.served == []
    assert context.rejections == 1


def test_tls_1_2_clients_are_served_where_it_is_allowed(serve, world):
    client = world.client(minimum_version=ssl.TLSVersion.TLSv1_2)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with serve(world.server(minimum_version=ssl.TLSVersion.TLSv1_2)) as server:
        assert server.attempt(client).answer == b"spiffe://a.test/client"
    with serve(world.server()) as server:
        assert server.attempt(client).error is not None
        assert server.served == []
