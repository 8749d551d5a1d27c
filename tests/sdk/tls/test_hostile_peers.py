"""Peers that send rubbish, half a handshake, huge chains, hostile leaves: one clear error each, and servers live."""

import contextlib
import gc
import os
import socket
import ssl
from pathlib import Path

import pytest

from authsec_sdk.authz import unsafe_authorize_any
from authsec_sdk.errors import InvalidX509SVIDError, SpiffeError
from authsec_sdk.testing import RUBBISH, TestCA, hostile_credentials, padded_chain, send_rubbish
from authsec_sdk.testing.hostile import CLIENT_HELLO
from authsec_sdk.tls import PeerVerificationError

DEADLINE = 30.0


@pytest.fixture
def blocks(request):
    """Whether the stack is a loop over blocking sockets in one thread."""
    return request.node.callspec.params["serve"] in ("blocking", "implicit")


def test_rubbish_reaches_no_application_and_stops_no_server(serve, world, blocks):
    context = world.server()
    # Where a connection is reset before `ssl` wraps it, `SSLSocket._create` itself leaves a socket to the collector.
    endings = [False] if blocks else [False, True]
    with serve(context) as server:
        for data in RUBBISH.values():
            for abort in endings:
                send_rubbish(server.port, data, abort=abort)
        assert server.attempt(world.client()).answer == b"spiffe://a.test/client"
    assert server.served == ["spiffe://a.test/client"]
    assert context.rejections == 0, "none of them was a peer"


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("role", ["server", "client"])
def test_rubbish_is_one_ssl_error(world, role, rubbish):
    context = world.server() if role == "server" else world.client()
    incoming = ssl.MemoryBIO()
    side = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=role == "server", server_hostname=None)
    with contextlib.suppress(ssl.SSLWantReadError):
        side.do_handshake()
    incoming.write(RUBBISH[rubbish])
    incoming.write_eof()
    for use in (side.do_handshake, lambda: side.read(1), lambda: side.write(b"x")):
        with pytest.raises(ssl.SSLError):
            use()
    assert side.peer_spiffe_id is None
    assert context.rejections == 0


def test_those_who_stay_silent_keep_nobody_out(serve, world, blocks):
    # A server of one thread waits for whom it accepted: its timeout is its own.
    held = [] if blocks else [CLIENT_HELLO[:20], b"", CLIENT_HELLO]
    with contextlib.ExitStack() as stack, serve(world.server()) as server:
        for data in held * 10:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE))
            plain.sendall(data)
        for _ in range(3):
            assert server.attempt(world.client()).answer == b"spiffe://a.test/client"
        stack.close()


WORDS = {
    "200 URI SANs": "exactly one URI SAN, this one has 200",
    "two URI SANs": "exactly one URI SAN, this one has 2",
    "no URI SAN": "exactly one URI SAN, this one has 0",
    "an ID of 30 kB": "not a SPIFFE ID",
    "an ID without a path": "has no path",
    "a CA as leaf": "is a CA certificate",
    "no key usage": "has no key usage",
    "a leaf that signs": "keyCertSign",
    "another trust domain": "no bundle for trust domain other-domain.test",
    "an extension of rubbish": "",
}


def hostile(ca):
    """Leaves that OpenSSL takes and SPIFFE does not, by the words of their refusal."""
    credentials = hostile_credentials(ca)
    return {words: credentials[name] for name, words in WORDS.items()}


@pytest.mark.parametrize("side", ["server", "client"])
def test_every_hostile_credential_is_refused_whatever_the_policy(world, shake, foreign, side):
    for name, credential in hostile_credentials(world.ca).items():
        if side == "server":
            error = shake(world.server(unsafe_authorize_any()), foreign(credential)).server_error
        else:
            error = shake(foreign(credential, server=True), world.client(unsafe_authorize_any())).client_error
        assert isinstance(error, ssl.SSLError), name


def test_hostile_leaves_are_refused_each_with_its_words_on_every_stack(serve, world, foreign):
    """trio is one of them: an exception of another kind would end its nursery, and every connection with it."""
    told = []
    context = world.server(unsafe_authorize_any(), on_rejected=told.append)
    leaves = hostile(world.ca)
    with serve(context) as server:
        for credential in leaves.values():
            assert server.attempt(foreign(credential)).answer == b""
        assert server.attempt(world.client()).answer == b"spiffe://a.test/client"
    assert server.served == ["spiffe://a.test/client"]
    assert len(told) == len(leaves)
    for words, rejection in zip(leaves, told, strict=True):
        assert words in str(rejection.reason)
        assert isinstance(rejection.reason, SpiffeError)
        assert len(str(rejection.reason)) < 70_000


def test_hostile_servers_are_refused_by_our_clients_on_every_stack(serve, world, foreign):
    """The refusal is ours or, on stacks that wrap it, has ours in its chain."""
    for credential in (world.ca.credential("/x", ca=True), TestCA("b.test").credential("spiffe://a.test/server")):
        context = world.client()
        with serve(foreign(credential, server=True)) as server:
            attempt = server.attempt(context)
        seen, found = attempt.error, False
        while seen is not None and not found:
            found, seen = isinstance(seen, PeerVerificationError), seen.__cause__ or seen.__context__
        assert found
        assert context.rejections == 1


def test_two_hundred_names_of_another_kind_are_fine(world, shake, foreign):
    names = tuple(f"host{number}.example" for number in range(200))
    pipe = shake(world.server(), foreign(world.ca.credential("/client", dns_names=names)))
    assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"


# --- chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_chain_of_a_megabyte_is_one_clear_error(world, shake, foreign, side):
    huge = padded_chain(world.ca, 1 << 20)
    if side == "server":
        error = shake(world.server(), foreign(huge)).server_error
    else:
        error = shake(foreign(huge, server=True), world.client()).client_error
    assert isinstance(error, ssl.SSLError)
    assert "excessive message size" in str(error).lower().replace("_", " ")


def test_what_fits_costs_time_and_nothing_else(world, shake, foreign):
    pipe = shake(world.server(), foreign(padded_chain(world.ca, 80_000)))
    assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"


def test_a_hundred_intermediates_are_an_error_like_others(world, shake, foreign):
    ca = world.ca
    for _ in range(105):
        ca = ca.intermediate()
    error = shake(world.server(), foreign(ca.credential("/client"))).server_error
    assert isinstance(error, ssl.SSLError)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory in /proc")
def test_hostile_peers_leave_no_memory_behind(world, shake, foreign):
    server = world.server(unsafe_authorize_any())
    peers = [foreign(credential) for credential in (padded_chain(world.ca, 1 << 20), *hostile(world.ca).values())]

    def resident():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def attack(times):
        for _ in range(times):
            for peer in peers:
                assert shake(server, peer).server_error is not None

    attack(5)
    before = resident()
    attack(30)
    assert resident() - before < 30 << 20, "thirty megabytes were sent by the first peer alone"
    assert server._generation().proven == {}


def test_a_refusal_names_what_is_wrong_and_not_all_of_it(world, shake, foreign, caplog):
    """A leaf of thirty kilobytes makes one line of at most one."""
    leaf = world.ca.credential("/x", uris=("spiffe://a.test/" + "x" * 30_000,))
    error = shake(world.server(unsafe_authorize_any()), foreign(leaf)).server_error
    assert isinstance(error.reason, InvalidX509SVIDError)
    assert all(len(record.getMessage()) < 2000 for record in caplog.records)
