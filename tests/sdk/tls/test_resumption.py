"""Nobody comes back without being verified again: not by ticket, not by session ID, not with our own session object."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.tls import ContextSettingError, IdentityUnavailableError, PeerVerificationError

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(params=[TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def version(request):
    return request.param


def client_of(foreign, version, credential):
    context = foreign(credential)
    context.minimum_version = context.maximum_version = version
    return context


def end_in_good_order(pipe):
    """Say goodbye on both sides: without it OpenSSL forgets TLS 1.2 sessions, and nothing would be proven."""
    for _ in range(2):
        for side in (pipe.client, pipe.server):
            with contextlib.suppress(ssl.SSLError):
                side.unwrap()
            pipe.move()


def test_a_client_that_resumes_is_verified_again_and_served(world, foreign, shake, version):
    server = world.server(minimum_version=TLS12)
    peer = client_of(foreign, version, world.client_source.x509_context.svid)
    session = None
    for _ in range(5):
        pipe = shake(server, peer, session=session)
        assert pipe.done
        assert not pipe.client.session_reused
        assert not pipe.server.session_reused
        assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"
        end_in_good_order(pipe)
        session = pipe.client.session
    assert server.rejections == 0


def test_a_session_does_not_outlive_the_right_to_connect(world, foreign, shake, version, snapshot):
    server = world.server(minimum_version=TLS12)
    peer = client_of(foreign, version, world.client_source.x509_context.svid)
    first = shake(server, peer)
    assert first.done
    end_in_good_order(first)
    world.ca.rotate()
    world.ca.remove_old_roots()
    world.server_source.publish(snapshot(world.ca.svid("/server"), world.ca))
    again = shake(server, peer, session=first.client.session)
    assert isinstance(again.server_error, PeerVerificationError)


def test_no_ticket_is_ever_issued(shake, world, foreign, version):
    peer = client_of(foreign, version, world.client_source.x509_context.svid)
    pipe = shake(world.server(minimum_version=TLS12), peer)
    assert pipe.done
    assert pipe.to_client() == b"pong"
    assert not pipe.client.session.has_ticket


def test_a_resumed_session_is_refused_even_if_openssl_resumes_one(world, foreign, shake):
    """The verdict does not rest on prevention: judge a session that was resumed on one inner context for two peers."""
    server = world.server(minimum_version=TLS12)
    server.maximum_version = TLS12
    generation = server._generation()
    peer = client_of(foreign, TLS12, world.client_source.x509_context.svid)
    first = shake(generation.inner, peer)
    assert first.done
    end_in_good_order(first)
    second = shake(generation.inner, peer, session=first.client.session)
    assert second.server.session_reused
    with pytest.raises(PeerVerificationError, match="the TLS session was resumed"):
        server._verifier.verify(second.server._sslobj, generation, time.monotonic())
    proof = server._verifier.verify(first.server._sslobj, generation, time.monotonic())
    assert str(proof.peer) == "spiffe://a.test/client"


def test_our_client_verifies_a_server_that_offers_to_resume(world, foreign, version):
    """A server with tickets of its own, as others run them: each of our connections sees its certificate again."""
    offering = foreign(world.server_source.x509_context.svid, server=True)
    offering.maximum_version = version
    client = world.client(authorize_id("spiffe://a.test/server"), minimum_version=TLS12)
    listener = socket.create_server(("127.0.0.1", 0))
    served = []

    def serve():
        for _ in range(3):
            plain, _ = listener.accept()
            with contextlib.suppress(OSError), offering.wrap_socket(plain, server_side=True) as tls:
                tls.sendall(b"x")
                served.append(tls.session_reused)
                tls.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        for _ in range(3):
            with (
                socket.create_connection(listener.getsockname(), timeout=30) as plain,
                client.wrap_socket(plain) as tls,
            ):
                assert tls.recv(1) == b"x"
                assert str(tls.peer_spiffe_id) == "spiffe://a.test/server"
        thread.join(30)
    assert served == [False] * 3


def test_giving_our_client_a_session_is_refused_with_words(world, shake, begin):
    first = shake(world.server(), world.client())
    session = first.client.session
    client = world.client()
    with pytest.raises(ContextSettingError, match="verifies its peer anew"):
        client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), session=session)
    pending = begin(world.server(), client).client
    assert pending.session is None
    with pytest.raises(ContextSettingError, match="verifies its peer anew"):
        pending.session = session


def test_a_connection_whose_own_context_cannot_be_built_fails_alone(world, shake):
    server = world.server(minimum_version=TLS12)
    assert server.generation
    svid = world.server_source.x509_context.svid
    good = svid.private_key
    object.__setattr__(svid, "private_key", world.ca.svid("/other").private_key)
    with pytest.raises(IdentityUnavailableError):
        shake(server, world.client())
    object.__setattr__(svid, "private_key", good)
    assert shake(server, world.client()).done


def test_each_tls_1_2_connection_of_a_server_has_an_inner_context_of_its_own(world, begin):
    shared = world.server()
    assert shared._generation().context_for_connection() is shared._generation().context_for_connection()
    allowing = world.server(minimum_version=TLS12)
    assert allowing._generation().context_for_connection() is not allowing._generation().context_for_connection()
