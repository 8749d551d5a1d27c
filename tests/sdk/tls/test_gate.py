"""No path round the verdict: implicit handshakes, raw sockets, what is left of a socket after a refusal."""

import contextlib
import gc
import io
import select
import socket
import ssl
import sys
import threading
import weakref

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.tls import (
    ConnectionEndedError,
    ContextSettingError,
    PeerVerificationError,
    SpiffeSSLContext,
    peer_spiffe_id,
)
from authsec_sdk.tls.connection import end_connections

NOBODY = authorize_id("spiffe://a.test/nobody")


@pytest.fixture
def sockets():
    """A connected pair of plain TCP sockets, since a TLS socket does not mind what is below."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), timeout=30)
        theirs, _ = listener.accept()
    theirs.settimeout(30)
    with ours, theirs:
        yield ours, theirs


@contextlib.contextmanager
def peer_thread(plain, context, received):
    """The other side: handshakes, then keeps every byte of application data it gets."""

    def run():
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
            while data := tls.recv(1000):
                received.append(data)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        assert not thread.is_alive()


def read_file(tls):
    with tls.makefile("rb", buffering=0) as file:
        return file.read(1)


USES = {
    "send": lambda tls: tls.send(b"secret"),
    "sendall": lambda tls: tls.sendall(b"secret"),
    "write": lambda tls: tls.write(b"secret"),
    "recv": lambda tls: tls.recv(1),
    "recv_into": lambda tls: tls.recv_into(bytearray(1)),
    "read": lambda tls: tls.read(1),
    "makefile": lambda tls: read_file(tls),
    "sendfile": lambda tls: tls.sendfile(io.BytesIO(b"secret")),
    "do_handshake": lambda tls: tls.do_handshake(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_first_use_of_a_raw_socket_verifies_and_so_does_each_further_one(world, sockets, foreign, use):
    ours, theirs = sockets
    received = []
    server = foreign(world.server_source.x509_context.svid, server=True)
    with peer_thread(theirs, server, received):
        with world.client(NOBODY).wrap_socket(ours, do_handshake_on_connect=False) as tls:
            assert peer_spiffe_id(tls) is None
            for each in (use, *USES.values()):
                with pytest.raises(PeerVerificationError, match=r"spiffe://a\.test/server"):
                    each(tls)
            with pytest.raises(PeerVerificationError):
                tls.unwrap()
            assert tls.peer_spiffe_id is None
    assert received == []


def test_a_refused_server_has_seen_our_certificate_and_sees_no_application_byte(world, sockets, foreign):
    """Threat 21, as it is: TLS shows our certificate before our verdict on the server's can end the connection."""
    ours, theirs = sockets
    server = foreign(world.server_source.x509_context.svid, server=True)
    server.load_verify_locations(cadata=world.ca.bundle().to_pem().decode())
    server.verify_mode = ssl.CERT_REQUIRED
    seen = []

    def run():
        with server.wrap_socket(theirs, server_side=True) as tls:
            seen.append(tls.getpeercert(True))
            with contextlib.suppress(OSError):
                seen.append(tls.recv(1000))

    thread = threading.Thread(target=run)
    thread.start()
    with pytest.raises(PeerVerificationError):
        world.client(NOBODY).wrap_socket(ours)
    ours.close()
    thread.join(30)
    assert seen[0] == world.client_source.x509_context.svid.chain_der()[0]
    assert seen[1:] in ([], [b""])


def test_an_implicit_handshake_with_the_right_peer_goes_on(world, sockets):
    ours, theirs = sockets
    received = []
    with peer_thread(theirs, world.server(), received):
        with world.client().wrap_socket(ours, do_handshake_on_connect=False) as tls:
            tls.send(b"first")
            assert str(tls.peer_spiffe_id) == "spiffe://a.test/server"
            tls.sendall(b"second")
    assert b"".join(received) == b"firstsecond"


def test_threads_that_begin_at_once_share_one_handshake_and_one_verdict(world, serve_blocking):
    """The standard library lets both into OpenSSL, which ends in `bad record mac` and the like."""
    asked, failures = [], []
    client = world.client(asked.append)
    with serve_blocking(world.server()) as server:
        for turn in range(1, 11):
            plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            with client.wrap_socket(plain, do_handshake_on_connect=False) as tls:

                def shake_hands(tls=tls):
                    try:
                        tls.do_handshake()
                    except OSError as error:
                        failures.append(error)

                threads = [threading.Thread(target=shake_hands) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(30)
                tls.sendall(b"ping")
                assert tls.recv(100) == b"spiffe://a.test/client"
            assert len(asked) == turn
    assert failures == []


def test_in_memory_a_write_before_the_handshake_waits_for_the_verdict(world, begin):
    handshake = begin(world.server(NOBODY), world.client())
    with pytest.raises(ssl.SSLWantReadError):
        handshake.client.write(b"secret")
    with pytest.raises(ssl.SSLWantReadError):
        handshake.server.read()
    handshake.move()
    for _ in range(4):
        for use in (lambda: handshake.client.write(b"secret"), lambda: handshake.server.write(b"secret")):
            with contextlib.suppress(ssl.SSLWantReadError, PeerVerificationError):
                use()
            handshake.move()
    with pytest.raises(PeerVerificationError):
        handshake.server.read()
    with pytest.raises(PeerVerificationError):
        handshake.server.write(b"x")
    with pytest.raises(PeerVerificationError):
        handshake.server.unwrap()


@pytest.mark.parametrize("handshake", [True, False], ids=["handshake on connect", "implicit"])
def test_a_socket_wrapped_before_it_connects_gets_the_generation_of_then(world, serve_blocking, handshake):
    client = world.client()
    with serve_blocking(world.server()) as server:
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        with client.wrap_socket(plain, do_handshake_on_connect=handshake) as tls:
            world.ca.rotate()
            world.publish(world.ca)
            world.ca.remove_old_roots()
            world.publish(world.ca)
            tls.connect(("127.0.0.1", server.port))
            tls.sendall(b"ping")
            assert tls.recv(100) == b"spiffe://a.test/client"


def test_a_socket_whose_connect_was_refused_is_closed_and_not_left_without_tls(world, serve_blocking):
    with serve_blocking(world.server()) as server:
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        with world.client(NOBODY).wrap_socket(plain) as tls:
            with pytest.raises(PeerVerificationError):
                tls.connect(("127.0.0.1", server.port))
            with pytest.raises(OSError, match="Bad file descriptor"):
                tls.send(b"secret in plaintext")
        assert server.served == []


@pytest.fixture
def silent():
    """A listening server that never says a word; `heard` tells what it was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def heard(listener):
    with listener.accept()[0] as peer:
        peer.settimeout(30)
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := peer.recv(1 << 16):
                received += data
        return received


def test_a_socket_whose_handshake_in_connect_timed_out_is_closed_and_not_left_without_tls(world, silent):
    with world.client().wrap_socket(socket.socket()) as tls:
        tls.settimeout(0.2)
        with pytest.raises(TimeoutError):
            tls.connect(silent.getsockname())
        with pytest.raises(OSError, match="Bad file descriptor"):
            tls.send(b"secret in plaintext")
    assert b"secret" not in heard(silent)


def test_a_socket_whose_connect_did_not_end_sends_nothing_and_may_connect_again(world, serve_blocking, silent):
    with world.client().wrap_socket(socket.socket(), do_handshake_on_connect=False) as tls:
        tls.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            tls.connect(silent.getsockname())  # the kernel goes on connecting, and will have a connection soon
        select.select([], [tls], [], 30)
        for use in (lambda: tls.send(b"secret in plaintext"), lambda: tls.sendall(b"secret"), lambda: tls.recv(1)):
            with pytest.raises(OSError):  # ours where connect() raised, the gate's where it came at once
                use()
    assert b"secret" not in heard(silent)
    with serve_blocking(world.server()) as server:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            nobody = gone.getsockname()
        with world.client().wrap_socket(socket.socket()) as tls:
            with pytest.raises(ConnectionRefusedError):
                tls.connect(nobody)
            with pytest.raises(ConnectionEndedError, match="connect"):
                tls.send(b"secret")
            tls.connect(("127.0.0.1", server.port))
            tls.sendall(b"ping")
            assert tls.recv(100) == b"spiffe://a.test/client"


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_at_no_moment_of_its_end_a_socket_is_open_and_without_tls(world, serve_blocking, how):
    """The standard library takes TLS off and closes then; what another thread sends in between is plaintext."""
    at_the_system_call = []

    def watch(_frame, event, function):
        if event == "c_call" and getattr(function, "__name__", "") == how:
            at_the_system_call.append(tls._sslobj)

    with serve_blocking(world.server()) as server:
        tls = world.client().wrap_socket(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        sys.setprofile(watch)
        try:
            tls.shutdown(socket.SHUT_RDWR) if how == "shutdown" else tls.close()
        finally:
            sys.setprofile(None)
        tls.close()
    assert at_the_system_call
    assert None not in at_the_system_call
    assert tls.version() is None  # closed, it tells what any closed one tells


def test_a_socket_that_is_not_connected_takes_no_context_without_a_policy(world, serve_blocking):
    with serve_blocking(world.server()) as server, world.client(NOBODY).wrap_socket(socket.socket()) as tls:
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(ContextSettingError, match="no policy"):
            tls.context = plain
        tls.context = world.client()
        tls.connect(("127.0.0.1", server.port))
        assert str(tls.peer_spiffe_id) == "spiffe://a.test/server"


def test_a_connection_that_was_ended_during_its_handshake_stays_so(world, begin):
    server = world.server()
    handshake = begin(server, world.client())
    gate = handshake.server._sslobj
    assert end_connections(server._generation(), "ended by a test") == 1
    for _ in range(4):
        for step in (handshake.client.do_handshake, gate.do_handshake):
            with contextlib.suppress(ssl.SSLWantReadError):
                step()
        handshake.move()
    with pytest.raises(ConnectionEndedError, match="ended by a test"):
        handshake.server.read()


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_after_shutdown_nothing_goes_out_as_plaintext(world, sockets, how):
    ours, theirs = sockets
    with world.client().wrap_socket(ours, do_handshake_on_connect=False) as tls:
        tls.shutdown(how)
        with pytest.raises(ConnectionEndedError, match="shut down"):
            tls.send(b"secret in plaintext")
        with pytest.raises(ConnectionEndedError):
            tls.recv(1)
    assert theirs.recv(100) == b""


def test_the_context_of_a_connection_is_the_facade_at_every_moment(world, begin, sockets):
    server, client = world.server(), world.client()
    handshake = begin(server, client)
    assert handshake.server.context is server
    assert handshake.client.context is client
    pipe = handshake.finish()
    assert pipe.server.context is server
    assert pipe.client.context is client
    for side in (pipe.server, pipe.client):  # httpcore hands OpenSSL's own object out
        assert isinstance(side._sslobj.context, SpiffeSSLContext)
        assert peer_spiffe_id(side._sslobj) is side.peer_spiffe_id
    ours, _ = sockets
    with client.wrap_socket(ours, do_handshake_on_connect=False) as tls:
        assert tls.context is client


def test_another_context_without_a_policy_is_refused(world, begin):
    handshake = begin(world.server(), world.client())
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ContextSettingError, match="no policy"):
        handshake.server.context = plain
    pipe = handshake.finish()
    with pytest.raises(ContextSettingError, match="during its handshake"):
        pipe.server.context = world.server()


def test_a_refused_connection_tells_of_its_handshake_and_of_nothing_else(world, shake):
    pipe = shake(world.server(NOBODY), world.client())
    assert pipe.server.version() == "TLSv1.3"
    assert pipe.server.getpeercert(True) == world.client_source.x509_context.svid.chain_der()[0]
    with pytest.raises(AttributeError):
        _ = pipe.server._sslobj.owner


def test_a_dropped_connection_is_freed_at_once(world, shake, begin):
    gc.disable()
    try:
        pipe = shake(world.server(), world.client())
        references = [weakref.ref(side) for side in (pipe.client, pipe.server)]
        del pipe
        stranger = type(world)()
        for server, client in ((world.server(NOBODY), world.client()), (world.server(), stranger.client(NOBODY))):
            refused = begin(server, client)
            references += [weakref.ref(refused.server), weakref.ref(refused.client)]
            for _ in range(4):
                for side in (refused.client, refused.server):
                    with contextlib.suppress(OSError):
                        side.do_handshake()
                    refused.move()
            assert server.rejections + client.rejections == 1
            del refused, side
        assert [reference() for reference in references] == [None] * len(references)
    finally:
        gc.enable()


def test_peer_spiffe_id_knows_none_where_nothing_proved_one(world, shake, foreign):
    pipe = shake(world.server(), foreign(world.client_source.x509_context.svid))
    assert peer_spiffe_id(pipe.client) is None
    assert str(peer_spiffe_id(pipe.server)) == "spiffe://a.test/client"
    assert peer_spiffe_id(None) is None
    assert peer_spiffe_id(object()) is None
