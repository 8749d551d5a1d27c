"""Resumption where it was asked for, against everything a resumed session has been used for. Decision 19 names each."""

import contextlib
import gc
import os
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import authsec_sdk
from authsec_sdk.authz import authorize_id, authorize_if, unsafe_authorize_any
from authsec_sdk.errors import InvalidX509SVIDError, PeerNotAuthorizedError
from authsec_sdk.spiffe import BundleSet, SpiffeID
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import (
    ConnectionEndedError,
    ContextSettingError,
    PeerVerificationError,
    TLSLimits,
)
from authsec_sdk.tls.proof import Proof, check_dates
from authsec_sdk.tls.resumption import ProvenLeaves, Sessions

TLS12 = ssl.TLSVersion.TLSv1_2
SHORT = timedelta(seconds=3)


@pytest.fixture
def attacker(world, foreign, shake):
    """A client of the standard library that keeps its session, and whatever it was told to present."""

    class Attacker:
        def __init__(self, credential=None):
            self.context = foreign(credential or world.client_source.x509_context.svid)
            self.session = None

        def connect(self, server):
            """Connect, with the session if there is one, and take the newest ticket."""
            pipe = shake(server, self.context, session=self.session)
            if pipe.server_error is None:
                pipe.to_client()
            else:
                with contextlib.suppress(ssl.SSLError):
                    pipe.client.read()
            found = pipe.client.session
            self.session = found if found is not None and found.has_ticket else self.session
            return pipe

    return Attacker


@pytest.fixture
def policy():
    """An authorizer that can change its mind."""
    denied = set()
    authorizer = authorize_if(lambda peer: peer not in denied, "whoever is not denied")
    return authorizer, denied


def until_expired(svid):
    while datetime.now(UTC) <= svid.not_after:
        time.sleep(0.05)


# --- that it works at all, or the rest would show nothing ------------------------------------------------------------


def test_a_session_is_resumed_again_and_again_and_the_id_is_proven_each_time(world, attacker):
    asked = []
    server = world.server(authorize_if(lambda peer: asked.append(peer) or True, "all"), resumption=True)
    client = attacker()
    reused = []
    for _ in range(4):
        pipe = client.connect(server)
        assert pipe.done
        reused.append(pipe.server.session_reused)
        assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"
        assert pipe.server.context is server
        assert pipe.to_server() == b"ping"
    assert reused == [False, True, True, True]
    assert len(asked) == 4
    assert server.rejections == 0


def test_our_client_and_our_server_resume(world, shake):
    server, client = world.server(resumption=True), world.client(resumption=True)
    reused = []
    for _ in range(4):
        pipe = shake(server, client)
        assert pipe.done
        assert pipe.to_client() == b"pong"
        assert pipe.to_server() == b"ping"
        assert pipe.to_client() == b"pong"
        assert str(pipe.client.peer_spiffe_id) == "spiffe://a.test/server"
        assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"
        reused.append((pipe.client.session_reused, pipe.server.session_reused))
    assert reused == [(False, False)] + [(True, True)] * 3


def test_it_is_off_by_default(world, attacker, shake):
    server = world.server()
    assert server.num_tickets == 0
    pipe = shake(server, attacker().context)
    pipe.to_client()
    assert not pipe.client.session.has_ticket
    for _ in range(2):
        pipe = shake(world.server(resumption=True), world.client())
        pipe.to_client()
        assert not pipe.server.session_reused


def test_it_works_on_every_stack(serve, world):
    told = []
    server_context = world.server(resumption=True, on_rejected=told.append)
    client = world.client(resumption=True)
    with serve(server_context) as server:
        for _ in range(4):
            assert server.attempt(client).answer == b"spiffe://a.test/client"
    assert server.served == ["spiffe://a.test/client"] * 4
    assert told == []


# --- the attacks, on our server --------------------------------------------------------------------------------------


def test_a_ticket_does_not_outlive_a_removed_root(world, attacker, snapshot):
    server, client = world.server(resumption=True), attacker()
    assert client.connect(server).done
    world.ca.rotate()
    world.ca.remove_old_roots()
    world.server_source.publish(snapshot(world.ca.svid("/server"), world.ca))
    pipe = client.connect(server)
    assert not pipe.server.session_reused
    assert isinstance(pipe.server_error, PeerVerificationError)


def test_a_ticket_of_another_generation_is_refused_and_the_handshake_is_whole(world, attacker):
    server, client = world.server(resumption=True), attacker()
    assert client.connect(server).done
    assert client.connect(server).server.session_reused
    world.rotate_svids()
    pipe = client.connect(server)
    assert pipe.done
    assert not pipe.server.session_reused
    assert client.connect(server).server.session_reused


def test_the_authorizer_is_asked_again(world, attacker, policy):
    authorizer, denied = policy
    server, client = world.server(authorizer, resumption=True), attacker()
    assert client.connect(server).done
    denied.add(SpiffeID.parse("spiffe://a.test/client"))
    pipe = client.connect(server)
    assert pipe.server.session_reused
    assert isinstance(pipe.server_error.reason, PeerNotAuthorizedError)
    assert pipe.server.peer_spiffe_id is None
    assert str(pipe.server_error.spiffe_id) == "spiffe://a.test/client"
    with pytest.raises(PeerVerificationError):
        pipe.server.read()


def test_a_session_does_not_outlive_the_peers_certificate(world, attacker):
    svid = world.ca.svid("/client", ttl=SHORT)
    server, client = world.server(resumption=True), attacker(svid)
    assert client.connect(server).done
    assert client.connect(server).server.session_reused
    until_expired(svid)
    pipe = client.connect(server)
    assert pipe.server.session_reused
    assert isinstance(pipe.server_error.reason, InvalidX509SVIDError)
    assert "expired" in str(pipe.server_error)


def test_a_session_does_not_outlive_an_intermediate(world, attacker):
    root = TestCA(world.ca.trust_domain, key=world.ca.private_key, subject=world.ca.certificate.subject, ttl=SHORT)
    credential = root.intermediate().credential("/client")  # an intermediate lives as long as its root
    server, client = world.server(resumption=True), attacker(credential)
    assert client.connect(server).done
    assert client.connect(server).server.session_reused
    while datetime.now(UTC) <= credential.certificates[1].not_valid_after_utc:
        time.sleep(0.05)
    pipe = client.connect(server)
    assert pipe.server.session_reused
    assert "expired" in str(pipe.server_error)


def test_whoever_was_refused_in_full_gains_nothing_by_the_ticket_it_got(world, attacker):
    """OpenSSL writes the ticket before our verdict, so a refused client may hold one."""
    server = world.server(authorize_id("spiffe://a.test/other"), resumption=True)
    client = attacker()
    assert isinstance(client.connect(server).server_error, PeerVerificationError)
    assert client.session is not None, "nothing would be shown"
    pipe = client.connect(server)
    assert pipe.server.session_reused
    assert isinstance(pipe.server_error.reason, PeerNotAuthorizedError)


def test_a_forger_of_another_domain_gains_nothing_by_the_ticket_it_got(world, attacker):
    """OpenSSL's one store accepts the chain; the membership rule does not, and then nor in the resumed session."""
    other = TestCA("b.test")
    world.publish(world.ca, other)
    server = world.server(unsafe_authorize_any(), resumption=True)
    client = attacker(other.credential("spiffe://a.test/admin"))
    assert isinstance(client.connect(server).server_error, PeerVerificationError)
    assert client.session is not None, "nothing would be shown"
    pipe = client.connect(server)
    assert pipe.server.session_reused
    assert isinstance(pipe.server_error, PeerVerificationError)
    assert server.rejections == 2


def test_a_leaf_that_breaks_a_rule_gains_nothing_by_the_ticket_it_got(world, attacker):
    server = world.server(unsafe_authorize_any(), resumption=True)
    client = attacker(world.ca.credential("/client", ca=True))
    for resumed in (False, True):
        pipe = client.connect(server)
        assert pipe.server.session_reused is resumed
        assert isinstance(pipe.server_error.reason, InvalidX509SVIDError)


def test_a_resumed_session_must_satisfy_the_newest_bundles_even_where_their_build_was_put_off(
    world, attacker, snapshot
):
    server = world.server(resumption=True, limits=TLSLimits(rebuilds_per_second=0.001))
    client = attacker()
    assert server.generation == 1
    world.rotate_svids()  # the bucket is empty now
    assert client.connect(server).done
    svid = world.server_source.x509_context.svid
    world.ca.rotate()
    world.ca.remove_old_roots()
    world.server_source.publish(snapshot(svid, world.ca))
    pipe = client.connect(server)
    assert pipe.server.session_reused
    assert isinstance(pipe.server_error, PeerVerificationError)


def test_a_ticket_used_twice_is_judged_twice(world, attacker, shake, policy):
    authorizer, denied = policy
    server, client = world.server(authorizer, resumption=True), attacker()
    client.connect(server)
    for _ in range(2):
        pipe = shake(server, client.context, session=client.session)
        assert pipe.server.session_reused
        assert pipe.server_error is None
    denied.add(SpiffeID.parse("spiffe://a.test/client"))
    assert isinstance(shake(server, client.context, session=client.session).server_error, PeerVerificationError)


def test_a_ticket_opens_no_other_context_of_the_same_source(world, attacker):
    lenient = world.server(unsafe_authorize_any(), resumption=True)
    strict = world.server(authorize_id("spiffe://a.test/other"), resumption=True)
    client = attacker()
    assert client.connect(lenient).done
    pipe = client.connect(strict)
    assert not pipe.server.session_reused
    assert isinstance(pipe.server_error, PeerVerificationError)
    client = attacker()
    assert client.connect(lenient).done
    view = lenient.view(alpn=("h2",))
    assert not client.connect(view).server.session_reused


def test_an_sni_callback_and_resumption_exclude_each_other(world, shake):
    """The way round that the design found: a ticket of the first context resumes after the callback swapped it."""
    server = world.server(resumption=True)
    with pytest.raises(ContextSettingError, match="SNI callback"):
        server.sni_callback = lambda *_: None
    assert server.sni_callback is None
    swapping = world.server()
    errors = []

    def swap(connection, _name, _context):
        try:
            connection.context = server
        except ContextSettingError as error:
            errors.append(error)
            return ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR

    swapping.sni_callback = swap
    assert not shake(swapping, world.client()).done
    assert "resumption" in str(errors[0])


def test_tls_1_2_and_resumption_exclude_each_other(world):
    with pytest.raises(ContextSettingError, match=r"TLS 1\.3"):
        world.server(resumption=True, minimum_version=TLS12)
    server = world.server(resumption=True)
    with pytest.raises(ContextSettingError, match=r"TLS 1\.3"):
        server.minimum_version = TLS12
    assert server.minimum_version is ssl.TLSVersion.TLSv1_3
    assert server.num_tickets == 1
    with pytest.raises(ContextSettingError):
        server.num_tickets = 2


def test_who_came_without_a_certificate_stays_without_an_id_and_who_had_one_is_judged(world, attacker, foreign, shake):
    server = world.server(resumption=True, client_certificate="request")
    nobody = foreign(None)
    pipe = shake(server, nobody)
    pipe.to_client()
    again = shake(server, nobody, session=pipe.client.session)
    assert again.server.session_reused
    assert again.server_error is None
    assert again.server.peer_spiffe_id is None
    refusing = world.server(authorize_id("spiffe://a.test/other"), resumption=True, client_certificate="request")
    client = attacker()
    for _ in range(2):
        assert isinstance(client.connect(refusing).server_error, PeerVerificationError)


def test_live_checks_reach_resumed_connections(world, attacker, snapshot, policy):
    authorizer, denied = policy
    server, client = world.server(authorizer, resumption=True), attacker()
    client.connect(server)
    pipe = client.connect(server)
    assert pipe.server.session_reused
    denied.add(SpiffeID.parse("spiffe://a.test/client"))
    assert server.recheck() == 1
    with pytest.raises(ConnectionEndedError):
        pipe.server.read()


# --- the attacks, on our client --------------------------------------------------------------------------------------


@pytest.fixture
def offering(foreign):
    """A server of the standard library that issues tickets, as others run them."""

    def make(credential):
        return foreign(credential, server=True)

    return make


def test_our_client_judges_a_server_again_that_it_resumes_with(world, shake, offering, policy):
    authorizer, denied = policy
    server = offering(world.server_source.x509_context.svid)
    client = world.client(authorizer, resumption=True)
    for resumed in (False, True, True):
        pipe = shake(server, client)
        assert pipe.client_error is None
        assert pipe.client.session_reused is resumed
        assert str(pipe.client.peer_spiffe_id) == "spiffe://a.test/server"
        assert pipe.to_client() == b"pong"
    denied.add(SpiffeID.parse("spiffe://a.test/server"))
    pipe = shake(server, client)
    assert pipe.client.session_reused
    assert isinstance(pipe.client_error.reason, PeerNotAuthorizedError)


def test_our_client_resumes_no_session_of_a_server_whose_certificate_expired(world, shake, offering):
    svid = world.ca.svid("/server", ttl=SHORT)
    server, client = offering(svid), world.client(resumption=True)
    shake(server, client).to_client()
    until_expired(svid)
    pipe = shake(server, client)
    assert pipe.client.session_reused
    assert "expired" in str(pipe.client_error)
    assert not shake(server, client).client.session_reused  # and the session is gone


def test_our_client_forgets_sessions_when_a_root_is_removed(world, shake, offering, snapshot):
    server, client = offering(world.server_source.x509_context.svid), world.client(resumption=True)
    shake(server, client).to_client()
    world.ca.rotate()
    world.ca.remove_old_roots()
    world.client_source.publish(snapshot(world.ca.svid("/client"), world.ca))
    pipe = shake(server, client)
    assert not pipe.client.session_reused
    assert isinstance(pipe.client_error, PeerVerificationError)


def test_our_client_keeps_no_session_of_a_server_it_refused(world, shake, offering):
    client = world.client(authorize_id("spiffe://a.test/other"), resumption=True)
    pipe = shake(offering(world.server_source.x509_context.svid), client)
    assert isinstance(pipe.client_error, PeerVerificationError)
    with pytest.raises(PeerVerificationError):
        pipe.client.read()
    assert client._generation().sessions.take("ignored.invalid") is None


def test_another_server_of_the_same_name_is_verified_in_full(world, shake, offering):
    client = world.client(authorize_id("spiffe://a.test/server"), resumption=True)
    shake(offering(world.server_source.x509_context.svid), client).to_client()
    pipe = shake(offering(world.ca.svid("/intruder")), client)
    assert not pipe.client.session_reused
    assert str(pipe.client_error.spiffe_id) == "spiffe://a.test/intruder"


def test_a_session_of_somebody_elses_cannot_be_brought_in(world, shake, attacker):
    server, client = world.server(resumption=True), attacker()
    client.connect(server)
    ours = world.client(resumption=True)
    with pytest.raises(ContextSettingError):
        ours.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), session=client.session)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_does_not_go_on_as_its_parent():
    program = """
import os, ssl
from authsec_sdk.authz import authorize_member_of
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import mtls_client_context
ca = TestCA("a.test")
source = X509ContextHolder(X509Context((ca.svid("/c"),), BundleSet.of(ca.bundle())))
sessions = mtls_client_context(source, authorize_member_of("a.test"), resumption=True)
kept = sessions._generation().sessions
kept.put("x", "a session")
pid = os.fork()
if pid == 0:
    os._exit(0 if kept.take("x") is None else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert kept.take("x") == "a session"
"""
    root = str(Path(authsec_sdk.__file__).parents[1])
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ, "PYTHONPATH": root})


# --- what is kept, and for how long ----------------------------------------------------------------------------------


def test_sessions_are_used_once_and_do_not_pile_up():
    sessions = Sessions()
    for number in range(1000):
        sessions.put(str(number), number)
    assert len(sessions._by_name) == 256
    assert sessions.take("999") == 999
    assert sessions.take("999") is None
    sessions.clear()
    assert sessions.take("998") is None


def test_a_leaf_that_was_forgotten_is_proven_anew_with_the_signers_that_are_known(world):
    issuing = world.ca.intermediate()
    chain = tuple(issuing.svid("/client").chain_der())
    bundles = BundleSet.of(world.ca.bundle())
    leaves = ProvenLeaves()
    leaves.remember(Proof(SpiffeID.parse("spiffe://a.test/client"), chain))
    for number in range(4096):
        leaves.remember(Proof(SpiffeID.parse("spiffe://a.test/x"), (b"%d" % number,)))
    assert chain[0] not in leaves._proofs
    proof = leaves.judge(chain[0], bundles, bundles, time.time())
    assert str(proof.peer) == "spiffe://a.test/client"
    assert len(leaves._proofs) <= 4096
    stranger = TestCA("a.test").svid("/client").chain_der()[0]
    with pytest.raises(Exception, match="no valid path"):
        leaves.judge(stranger, bundles, bundles, time.time())


def test_dates_are_judged_of_each_certificate_of_a_chain(world):
    chain = tuple(world.ca.intermediate().svid("/client", ttl=timedelta(minutes=5)).chain_der())
    now = time.time()
    check_dates(chain, now)
    for wrong in (now - 60, now + 301):
        with pytest.raises(InvalidX509SVIDError, match="expired, or is not valid yet"):
            check_dates(chain, wrong)


def test_connections_that_wait_for_a_ticket_leave_nothing_behind(world, shake):
    import weakref

    server, client = world.server(resumption=True), world.client(resumption=True)
    pipe = shake(server, client)
    references = weakref.ref(pipe.client), weakref.ref(pipe.server)
    del pipe
    gc.collect()
    assert [reference() for reference in references] == [None, None]
