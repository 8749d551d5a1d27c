"""Open connections whose peer loses its trust or its rights, or which grow old: ended, on every stack, with words."""

import asyncio
import contextlib
import gc
import socket
import ssl
import threading
import time
import weakref
from datetime import UTC, datetime, timedelta

import anyio
import anyio.streams.tls
import pytest
import trio

from authsec_sdk.authz import authorize_id, authorize_if, authorize_member_of, unsafe_authorize_any
from authsec_sdk.errors import PeerNotAuthorizedError, UntrustedPeerError
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import (
    ConnectionEndedError,
    ContextSettingError,
    IdentityUnavailableError,
    LiveChecks,
    drain_due,
    tls_server_context,
    unsafe_bootstrap_client_context,
)
from authsec_sdk.tls.connection import end_connection, hand_on
from authsec_sdk.tls.live import Lifetime

RECHECKED = LiveChecks(recheck=True)
DEADLINE = 30.0
CLIENT = SpiffeID.parse("spiffe://a.test/client")


@pytest.fixture
def policy():
    """An authorizer that can change its mind, and whom it denies."""
    denied = set()
    return authorize_if(lambda peer: peer not in denied, "whoever is not denied"), denied


def remove_root(world):
    world.ca.rotate()
    world.ca.remove_old_roots()
    world.publish(world.ca)


def ended(use):
    with pytest.raises(ConnectionEndedError, match="not accepted any more"):
        use()


# --- trust and policy ------------------------------------------------------------------------------------------------


def test_a_removed_root_ends_connections_at_once_where_asked_for(world, shake, caplog):
    told = []
    server = world.server(live=RECHECKED, on_rejected=told.append)
    client = world.client(live=RECHECKED)
    pipe = shake(server, client)
    assert pipe.to_server() == b"ping"
    world.rotate_svids()
    assert pipe.to_server() == b"ping", "a new SVID disturbs nobody"
    world.ca.rotate()
    world.publish(world.ca)
    assert pipe.to_server() == b"ping", "a further root neither"
    world.ca.remove_old_roots()
    world.publish(world.ca)
    for side in (pipe.server, pipe.client):
        ended(lambda side=side: side.write(b"x"))
        ended(lambda side=side: side.read())
    assert [str(each.spiffe_id) for each in told] == ["spiffe://a.test/client"]
    assert isinstance(told[0].reason, UntrustedPeerError)
    assert server.rejections == client.rejections == 1
    assert "does not lead to an authority of its own trust domain" in caplog.text
    assert shake(server, client).done


def test_without_the_option_they_go_on_until_somebody_asks(world, shake):
    server, client = world.server(), world.client()
    pipe = shake(server, client)
    remove_root(world)
    assert pipe.to_server() == b"ping"
    assert server.recheck() == 1
    ended(pipe.server.read)
    assert server.recheck() == 0
    assert pipe.client.write(b"x") == 1


def test_a_federated_domain_that_is_gone_ends_its_connections_alone(world, shake, foreign):
    other = TestCA("b.test")
    world.publish(world.ca, other)
    server = world.server(unsafe_authorize_any(), live=RECHECKED)
    stranger, friend = shake(server, foreign(other.credential("/x"))), shake(server, world.client())
    world.publish(world.ca)
    ended(stranger.server.read)
    assert friend.to_server() == b"ping"


def test_a_policy_that_changed_its_mind_ends_connections_when_asked(world, shake, policy):
    """Threat 27: a reload of policy rechecks live connections."""
    authorizer, denied = policy
    told = []
    server = world.server(authorizer, on_rejected=told.append)
    pipes = [shake(view, world.client()) for view in (server, server, server.view(alpn=()))]
    other = shake(server, world.client())
    assert server.recheck() == 0
    denied.add(CLIENT)
    assert all(pipe.to_server() == b"ping" for pipe in pipes), "nothing happens by itself"
    assert server.view().recheck() == 4
    for pipe in (*pipes, other):
        ended(pipe.server.read)
    assert {type(each.reason) for each in told} == {PeerNotAuthorizedError}


def test_an_authorizer_that_fails_in_a_recheck_ends_connections(world, shake):
    broken = []

    def judge(_peer):
        return 1 / (0 if broken else 1) == 1

    server = world.server(authorize_if(judge, "a judge who may break"))
    pipe = shake(server, world.client())
    broken.append(True)
    assert server.recheck() == 1
    ended(pipe.server.read)


def test_a_peer_reissued_under_the_same_key_goes_on(world, shake, snapshot):
    """The authority's certificate was renewed, its key stays: the chain is verified once more by itself."""
    renewed = TestCA("a.test", key=world.ca.private_key, subject=world.ca.certificate.subject)
    server = world.server(live=RECHECKED)
    pipe = shake(server, world.client())
    world.server_source.publish(snapshot(world.ca.svid("/server"), renewed))
    assert pipe.to_server() == b"ping"


def test_an_expired_leaf_is_no_reason_for_a_recheck(world, shake, foreign):
    svid = world.ca.svid("/client", ttl=timedelta(seconds=2))
    server = world.server(live=RECHECKED)
    pipe = shake(server, foreign(svid))
    while datetime.now(UTC) <= svid.not_after:
        time.sleep(0.05)
    assert server.recheck() == 0
    assert pipe.to_server() == b"ping"


def test_peers_without_an_id_and_unproven_ones(world, shake, foreign, policy):
    authorizer, denied = policy
    asking = world.server(authorizer, client_certificate="request", live=RECHECKED)
    nobody = shake(asking, foreign(None))
    anybody = shake(tls_server_context(world.server_source), world.client())
    bootstrap = unsafe_bootstrap_client_context(authorize_id("spiffe://a.test/server"))
    believed = shake(world.server(client_certificate="request"), bootstrap)
    remove_root(world)
    assert asking.recheck() == bootstrap.recheck() == 0
    for pipe in (nobody, anybody, believed):
        assert pipe.to_server() == b"ping"
    assert denied == set()


def test_a_source_that_was_closed_ends_nothing(world, shake):
    server = world.server(live=RECHECKED)
    pipe = shake(server, world.client())
    world.server_source.close()
    with pytest.raises(IdentityUnavailableError):
        server.recheck()
    assert pipe.to_server() == b"ping"


def test_a_handshake_under_way_is_judged_by_the_newest_too(world, begin):
    handshake = begin(world.server(live=RECHECKED), world.client())
    remove_root(world)
    assert "does not lead to an authority" in str(handshake.finish().server_error)


def test_a_recheck_that_passed_over_a_handshake_under_way_reaches_it_at_its_end(world, begin, policy):
    authorizer, denied = policy
    server = world.server(authorizer)
    handshake = begin(server, world.client())
    remove_root(world)
    assert server.recheck() == 0
    pipe = handshake.finish()
    assert "does not lead to an authority" in str(pipe.server_error)
    handshake = begin(server, world.client())
    denied.add(CLIENT)
    assert server.recheck() == 0
    assert isinstance(handshake.finish().server_error.reason, PeerNotAuthorizedError)


class InterruptedConnection:
    """A connection that another thread ends at the very moment at which this one lets it work through something."""

    def __init__(self):
        self.__dict__.update(_sslobj="the gate", _generation=object())

    def __setattr__(self, name, value):
        if value == "OpenSSL's object":
            end_connection(self, "ended by another thread")
        self.__dict__[name] = value


def test_a_connection_ended_while_it_opens_stays_ended():
    connection = InterruptedConnection()
    hand_on(connection, "OpenSSL's object")
    with pytest.raises(ConnectionEndedError):
        connection._sslobj.read(1)


def test_a_recheck_between_verdict_and_first_byte_is_not_missed(world, begin, policy):
    """The policy changes, and is rechecked, while the authorizer of a handshake has already said yes."""
    authorizer, denied = policy
    server_context = []

    def judge(peer):
        authorizer(peer)
        if not denied:
            denied.add(peer)
            server_context[0].recheck()  # from another thread, say: the connection is not open yet
        return True

    server_context.append(world.server(authorize_if(judge, "changing")))
    pipe = begin(server_context[0], world.client()).finish()
    assert pipe.server_error is None
    ended(pipe.server.read)


@pytest.mark.parametrize("use", ["read", "write"])
def test_nor_where_the_first_use_is_the_handshake(world, begin, policy, use):
    """Data that came with the handshake is not handed out once the recheck has ended the connection."""
    authorizer, denied = policy
    contexts = []

    def judge(peer):
        authorizer(peer)
        if not denied:
            denied.add(peer)
            contexts[0].recheck()
        return True

    contexts.append(world.server(authorize_if(judge, "changing")))
    handshake = begin(contexts[0], world.client())
    for side in (handshake.client, handshake.server):
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
        handshake.move()
    handshake.client.do_handshake()
    handshake.client.write(b"secret")
    handshake.move()
    ended(lambda: handshake.server.read() if use == "read" else handshake.server.write(b"x"))


def test_rechecks_hold_no_connection_and_no_context(world, shake):
    server, client = world.server(live=RECHECKED), world.client(live=RECHECKED)
    pipe = shake(server, client)
    references = [weakref.ref(each) for each in (pipe.server, pipe.client, server, client, server._verifier)]
    remove_root(world)
    del pipe, server, client
    gc.collect()
    assert [reference() for reference in references] == [None] * 5
    world.rotate_svids()


def test_many_connections_of_one_peer_are_judged_once(world, shake):
    asked = []
    server = world.server(authorize_if(lambda peer: asked.append(peer) or True, "all"))
    client = world.client()
    pipes = [shake(server, client) for _ in range(20)]
    asked.clear()
    assert server.recheck() == 0
    assert len(asked) == 1
    assert pipes[-1].done


def test_rechecks_while_connections_come_and_go(world, shake):
    server, client = world.server(live=RECHECKED), world.client(live=RECHECKED)
    stop, failures = threading.Event(), []

    def connect():
        while not stop.is_set():
            pipe = shake(server, client)
            if not pipe.done:
                failures.append(pipe)

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        world.rotate_svids()
        assert server.recheck() == 0
    stop.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert failures == []


# --- every stack -----------------------------------------------------------------------------------------------------


class _Echoing:
    """A server in a thread which echoes; `failures` is what its connections ended with."""

    def __init__(self):
        self.port = 0
        self.failures = []
        self.closed = threading.Event()


def _roundtrip(tls):
    tls.sendall(b"ping")
    return tls.recv(100)


async def _echo_asyncio(context, seen, ready, stop):
    async def handle(reader, writer):
        try:
            while data := await reader.read(100):
                writer.write(data)
                await writer.drain()
        except OSError as error:
            seen.failures.append(error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            seen.closed.set()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
        seen.port = server.sockets[0].getsockname()[1]
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.02)


async def _echo_trio(context, seen, ready, stop):
    async def handle(stream):
        try:
            while data := await stream.receive_some(100):
                await stream.send_all(data)
        except trio.BrokenResourceError as error:
            seen.failures.append(error.__cause__)
        finally:
            await trio.aclose_forcefully(stream)
            seen.closed.set()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        seen.port = listeners[0].transport_listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        ready.set()
        while not stop.is_set():
            await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def _echo_anyio(context, seen, ready, stop):
    async def handle(stream):
        try:
            while True:
                await stream.send(await stream.receive())
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            seen.failures.append(error if isinstance(error, OSError) else error.__cause__)
        finally:
            await anyio.aclose_forcefully(stream)
            seen.closed.set()

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    seen.port = plain.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.streams.tls.TLSListener(plain, context, standard_compatible=False) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, handle)
            ready.set()
            while not stop.is_set():
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()


def _run_uvloop(main, *args):
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*args))


LOOPS = {
    "asyncio": lambda *args: asyncio.run(_echo_asyncio(*args)),
    "uvloop": lambda *args: _run_uvloop(_echo_asyncio, *args),
    "trio": lambda *args: trio.run(_echo_trio, *args),
    "anyio on asyncio": lambda *args: anyio.run(_echo_anyio, *args),
    "anyio on trio": lambda *args: anyio.run(_echo_anyio, *args, backend="trio"),
}


@pytest.mark.parametrize("stack", LOOPS)
def test_event_loops_end_a_connection_at_its_next_use(world, policy, stack):
    authorizer, denied = policy
    context, seen = world.server(authorizer), _Echoing()
    ready, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=LOOPS[stack], args=(context, seen, ready, stop))
    thread.start()
    try:
        assert ready.wait(DEADLINE)
        with socket.create_connection(("127.0.0.1", seen.port), timeout=DEADLINE) as plain:
            with world.client().wrap_socket(plain) as tls:
                assert _roundtrip(tls) == b"ping"
                denied.add(CLIENT)
                assert context.recheck() == 1
                try:
                    answer = _roundtrip(tls)
                except OSError:
                    answer = b""
                assert answer == b""
                assert seen.closed.wait(DEADLINE)
    finally:
        stop.set()
        thread.join(DEADLINE)
    (failure,) = seen.failures
    assert isinstance(failure, ConnectionEndedError)
    assert "not accepted any more" in str(failure)


def test_a_blocking_socket_that_waits_is_woken(world, policy):
    authorizer, denied = policy
    context = world.server(authorizer)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        results, waiting = [], threading.Event()

        def serve():
            plain, _ = listener.accept()
            with plain, context.wrap_socket(plain, server_side=True) as tls:
                results.append(tls.recv(4))
                waiting.set()
                try:
                    results.append(tls.recv(4))  # no timeout: only the end of the connection ends this
                    tls.sendall(b"x")
                except OSError as error:
                    results.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=DEADLINE) as plain:
            with world.client().wrap_socket(plain) as tls:
                tls.sendall(b"ping")
                assert waiting.wait(DEADLINE)
                denied.add(CLIENT)
                assert context.recheck() == 1
                thread.join(DEADLINE)
                assert not thread.is_alive()
    assert results[0] == b"ping"
    assert isinstance(results[-1], OSError)


# --- age -------------------------------------------------------------------------------------------------------------


def test_a_lifetime_is_the_age_with_its_jitter_and_a_grace():
    checks = LiveChecks(maximum_age=100.0, jitter=0.1, grace=20.0)
    assert checks.lifetime(1000.0, expires_in=None, dice=0.0) == Lifetime(1100.0, 1120.0)
    assert checks.lifetime(1000.0, expires_in=5.0, dice=-1.0) == Lifetime(1090.0, 1110.0)
    assert checks.lifetime(1000.0, expires_in=None, dice=1.0) == Lifetime(1110.0, 1130.0)
    both = LiveChecks(maximum_age=100.0, jitter=0.0, grace=20.0, expiry=True)
    assert both.lifetime(0.0, expires_in=50.0, dice=0.0) == Lifetime(30.0, 50.0)
    assert both.lifetime(0.0, expires_in=500.0, dice=0.0) == Lifetime(100.0, 120.0)
    assert both.lifetime(10.0, expires_in=5.0, dice=0.0) == Lifetime(10.0, 15.0)
    assert LiveChecks().lifetime(0.0, expires_in=5.0, dice=0.0) == Lifetime()


@pytest.mark.parametrize(
    "wrong", [{"maximum_age": 0}, {"maximum_age": -1}, {"jitter": 1}, {"jitter": -0.1}, {"grace": -1}], ids=str
)
def test_wrong_checks(wrong):
    with pytest.raises(ContextSettingError):
        LiveChecks(**wrong)


def test_an_old_connection_says_so_and_ends(world, shake):
    server = world.server(live=LiveChecks(maximum_age=1.0, jitter=0.0, grace=1.0))
    pipe = shake(server, world.client())
    assert not pipe.server.drain_due
    assert pipe.to_server() == b"ping"
    while not drain_due(pipe.server):
        time.sleep(0.02)
    assert not pipe.client.drain_due, "the other side has no such rule"
    deadline = time.monotonic() + DEADLINE
    with pytest.raises(ConnectionEndedError, match="maximum age"):
        while time.monotonic() < deadline:
            pipe.server.write(b"x")
            time.sleep(0.02)
    with pytest.raises(ConnectionEndedError, match="maximum age"):
        pipe.server.read()
    assert not drain_due(object())


def test_a_connection_does_not_outlive_its_peers_certificate_where_asked_for(world, shake, foreign):
    svid = world.ca.svid("/client", ttl=timedelta(seconds=3))
    server = world.server(live=LiveChecks(expiry=True, grace=0.0))
    pipe = shake(server, foreign(svid))
    long = shake(server, world.client())
    assert pipe.to_server() == b"ping"
    while datetime.now(UTC) <= svid.not_after + timedelta(seconds=0.2):
        time.sleep(0.05)
    pipe.client.write(b"late")
    pipe.move()
    with pytest.raises(ConnectionEndedError):
        pipe.server.read()
    assert long.to_server() == b"ping"


def test_an_old_blocking_socket_is_closed_for_the_peer_too(world):
    context = world.server(live=LiveChecks(maximum_age=1.0, jitter=0.0, grace=0.0))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            plain, _ = listener.accept()
            with plain, contextlib.suppress(ssl.SSLError), context.wrap_socket(plain, server_side=True) as tls:
                while True:
                    tls.sendall(tls.recv(10) or b"?")

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=DEADLINE) as plain:
            with contextlib.suppress(OSError), world.client().wrap_socket(plain) as tls:
                while _roundtrip(tls):
                    time.sleep(0.02)
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_a_guarded_connection_works_as_any_other(serve, world):
    guarded = LiveChecks(recheck=True, expiry=True, maximum_age=3600.0)
    with serve(world.server(live=guarded)) as server:
        for _ in range(3):
            assert server.attempt(world.client(live=guarded)).answer == b"spiffe://a.test/client"


def test_without_a_bounded_lifetime_nothing_stands_before_openssl(world, shake):
    """The guard costs nothing where it is off, because it is not there."""
    plain = shake(world.server(live=RECHECKED), world.client())
    assert type(plain.server._sslobj).__module__ == "_ssl"
    assert type(plain.client._sslobj).__module__ == "_ssl"
    assert shake(world.server(authorize_member_of("a.test")), world.client()).server.drain_due is False
