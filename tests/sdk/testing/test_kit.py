"""The clock, the pair, and the hostile peers do what they say: a kit that lies hides holes."""

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

import authsec_sdk.testing
from authsec_sdk.errors import InvalidX509SVIDError, SourceClosedError
from authsec_sdk.spiffe import JWTSVID, BundleSet
from authsec_sdk.testing import (
    RUBBISH,
    Clock,
    HostileServer,
    MTLSPair,
    TestCA,
    hostile_credentials,
    padded_chain,
    plain_context,
    send_rubbish,
    shake,
)
from authsec_sdk.tls import PeerVerificationError


def test_every_name_is_found_and_others_are_not() -> None:
    for name in authsec_sdk.testing.__all__:
        assert getattr(authsec_sdk.testing, name) is not None
    assert sorted(authsec_sdk.testing._HOMES) == sorted(authsec_sdk.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        authsec_sdk.testing.Nothing  # noqa: B018


# --- clock -----------------------------------------------------------------------------------------------------------


def test_a_clock_goes_when_it_is_told_to() -> None:
    clock = Clock(datetime(2026, 1, 1, tzinfo=UTC))
    ca = TestCA("example.org", clock=clock)
    svid = ca.svid(ttl=timedelta(minutes=5))
    assert not svid.is_expired(clock())
    assert svid.is_expired(clock.advance(minutes=6))
    token = ca.tokens.jwt_token("/w", ["a"], ttl=timedelta(minutes=5))
    bundles = BundleSet.of(ca.tokens.jwt_bundle())
    assert JWTSVID.parse_and_validate(token, bundles, ["a"], now=clock()).id == ca.id("/w")
    with pytest.raises(authsec_sdk.InvalidTokenError):
        JWTSVID.parse_and_validate(token, bundles, ["a"], now=clock.advance(hours=1, seconds=1))
    assert clock() == datetime(2026, 1, 1, 1, 6, 1, tzinfo=UTC)
    assert repr(clock) == "<Clock 2026-01-01T01:06:01+00:00>"
    with pytest.raises(ValueError, match="time zone"):
        Clock(datetime(2026, 1, 1))  # noqa: DTZ001 - the point


# --- pair ------------------------------------------------------------------------------------------------------------


def test_each_side_of_the_pair_accepts_the_other_alone(mtls_pair: MTLSPair, spiffe_ca: TestCA) -> None:
    pipe = mtls_pair.handshake()
    assert (pipe.client.peer_spiffe_id, pipe.server.peer_spiffe_id) == (mtls_pair.server_id, mtls_pair.client_id)
    assert (pipe.to_server(), pipe.to_client()) == (b"ping", b"pong")
    other = plain_context(spiffe_ca.svid("/other"))
    with pytest.raises(PeerVerificationError, match="not authorized"):
        mtls_pair.handshake(client=other)
    with pytest.raises(PeerVerificationError, match="not authorized"):
        mtls_pair.handshake(server=plain_context(spiffe_ca.svid("/other"), server=True))
    with pytest.raises(ssl.SSLError):
        mtls_pair.handshake(client=plain_context(None))


def test_a_pair_forgets_removed_roots_and_ends(spiffe_ca: TestCA) -> None:
    pair = MTLSPair(spiffe_ca, client="/a", server="/b")
    old = plain_context(spiffe_ca.svid("/a"))
    pair.rotate(root=True)
    assert pair.handshake(client=old).done
    pair.rotate(remove_old_roots=True)
    with pytest.raises(ssl.SSLError):
        pair.handshake(client=old)
    pair.close()
    with pytest.raises(SourceClosedError):
        pair.client_source.x509_context  # noqa: B018


# --- hostile peers ---------------------------------------------------------------------------------------------------


def test_hostile_credentials_are_wrong_and_their_ca_is_right(spiffe_ca: TestCA, mtls_pair: MTLSPair) -> None:
    credentials = hostile_credentials(spiffe_ca)
    assert len(credentials) >= 15
    for name, credential in credentials.items():
        assert shake(mtls_pair.server(), plain_context(credential)).server_error is not None, name
    assert mtls_pair.handshake(client=plain_context(spiffe_ca.svid("/client"))).done


def test_a_padded_chain_is_as_long_as_asked_and_begins_well(spiffe_ca: TestCA, mtls_pair: MTLSPair) -> None:
    credential = padded_chain(spiffe_ca, 60_000)
    assert 50_000 < len(credential.chain_der()) < 70_000
    assert mtls_pair.handshake(client=plain_context(credential)).done


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("abort", [False, True])
def test_rubbish_arrives_as_it_is(slowly: bool, abort: bool) -> None:
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            plain, _ = listener.accept()
            with plain, contextlib.suppress(ConnectionResetError):
                while data := plain.recv(4096):
                    got.append(data)

        thread = threading.Thread(target=accept)
        thread.start()
        send_rubbish(listener.getsockname()[1], RUBBISH["an SSH banner"], abort=abort, slowly=slowly)
        thread.join(30)
    assert abort or b"".join(got) == RUBBISH["an SSH banner"]


def test_a_hostile_server_sends_and_hangs_up_or_holds() -> None:
    with HostileServer(b"rubbish") as server, socket.create_connection(("127.0.0.1", server.port), 30) as plain:
        assert plain.makefile("rb").read() == b"rubbish"
        assert server.connections == 1
    with HostileServer(hold=True) as server, socket.create_connection(("127.0.0.1", server.port), 30) as plain:
        plain.settimeout(0.1)
        with pytest.raises(TimeoutError):
            plain.recv(1)
    assert not [thread for thread in threading.enumerate() if thread.name == "hostile-server"]


@pytest.mark.parametrize("name", ["random", "http", "a hello and no more", "an alert", "nothing"])
def test_our_clients_meet_one_clear_error(mtls_pair: MTLSPair, name: str) -> None:
    with HostileServer(RUBBISH[name]) as server, socket.create_connection(("127.0.0.1", server.port), 30) as plain:
        with pytest.raises(OSError):
            mtls_pair.client_context.wrap_socket(plain, server_hostname="x")


def test_no_svid_value_holds_a_hostile_leaf(spiffe_ca: TestCA) -> None:
    with pytest.raises(InvalidX509SVIDError):
        spiffe_ca.svid("/x", ca=True)
