"""Refusals: counted, told to hook and log, harmless to the server, whatever the peer or our own authorizer does."""

import asyncio
import http.server
import logging
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509

from authsec_sdk.authz import authorize_id, authorize_if, unsafe_authorize_any
from authsec_sdk.errors import (
    InvalidAuthorizerError,
    InvalidX509SVIDError,
    PeerNotAuthorizedError,
    UntrustedPeerError,
)
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import (
    IdentityUnavailableError,
    PeerVerificationError,
    Rejection,
    TLSLimits,
    mtls_client_context,
    mtls_server_context,
    unsafe_bootstrap_client_context,
)

LOGGER = "authsec_sdk.tls.peer"


def unparsable(ca):
    """A leaf that OpenSSL takes, and at which `cryptography` raises: an extension with rubbish in it."""
    rubbish = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.1"), b"\x04\x00rubbish")
    return ca.credential("/client", extensions={rubbish: False})


def test_refusals_are_counted_and_told_with_id_and_reason(world, shake, caplog):
    told = []
    server = world.server(authorize_id("spiffe://a.test/other"), on_rejected=told.append)
    view = server.view(alpn=("h2",))
    with caplog.at_level(logging.WARNING, LOGGER):
        for context in (server, view, server):
            assert isinstance(shake(context, world.client()).server_error, PeerVerificationError)
    assert server.rejections == view.rejections == len(told) == 3
    assert told[0] == Rejection(told[0].spiffe_id, told[0].reason, "server", told[0].generation)
    assert str(told[0].spiffe_id) == "spiffe://a.test/client"
    assert isinstance(told[0].reason, PeerNotAuthorizedError)
    assert len(caplog.records) == 3
    for text in ("role=server", "spiffe_id=spiffe://a.test/client", "wanted: spiffe://a.test/other"):
        assert text in caplog.text


def test_the_error_is_ours_and_an_ssl_error(world, shake):
    error = shake(world.server(), world.client(authorize_id("spiffe://a.test/other"))).client_error
    assert isinstance(error, ssl.CertificateError)
    assert isinstance(error, OSError)
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert error.reason.wanted in error.verify_message
    assert str(error).startswith("peer refused: peer spiffe://a.test/server is not authorized")


def test_what_openssl_refuses_is_a_refusal_like_others(world, shake, foreign):
    told = []
    server = world.server(on_rejected=told.append)
    stranger = shake(server, foreign(TestCA("a.test").credential("/client"))).server_error
    nobody = shake(server, foreign(None)).server_error
    assert stranger.verify_code == 20
    assert "unable to get local issuer certificate" in str(stranger)
    assert "no certificate" in str(nobody)
    assert [type(each.reason) for each in told] == [UntrustedPeerError] * 2
    assert server.rejections == 2


def test_the_id_that_a_refused_server_claims_is_told(world, shake, foreign, caplog):
    """OpenSSL keeps the chain of a server which it refused, and none of a client: the ID is claimed, and unproven."""
    told = []
    client = world.client(on_rejected=told.append)
    impostor = foreign(TestCA("a.test").credential("/server"), server=True)
    error = shake(impostor, client).client_error
    assert isinstance(error.reason, UntrustedPeerError)
    assert str(error.spiffe_id) == str(told[0].spiffe_id) == "spiffe://a.test/server"
    assert "spiffe_id=spiffe://a.test/server" in caplog.text
    for nameless in (
        TestCA("a.test").credential("/server", uris=()),
        TestCA("a.test").credential("/server", uris=("https://x\n.test",)),
    ):
        error = shake(foreign(nameless, server=True), client).client_error
        assert isinstance(error, PeerVerificationError)
        assert error.spiffe_id is None


def test_a_failure_that_is_not_the_peers_identity_is_not_called_one(world, shake, foreign):
    server = world.server()
    old = foreign(world.client_source.x509_context.svid)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    error = shake(server, old).server_error
    assert isinstance(error, ssl.SSLError)
    assert not isinstance(error, PeerVerificationError)
    assert server.rejections == 0


def test_a_hook_that_fails_changes_nothing(world, shake, caplog):
    def hook(_rejection):
        raise RuntimeError("the hook is broken")

    server = world.server(authorize_id("spiffe://a.test/other"), on_rejected=hook)
    assert isinstance(shake(server, world.client()).server_error, PeerVerificationError)
    assert "the hook is broken" in caplog.text


def test_a_flood_of_refusals_does_not_flood_the_log(world, shake, caplog):
    server = world.server(authorize_id("spiffe://a.test/other"))
    client = world.client()
    began = time.monotonic()
    for _ in range(150):
        shake(server, client)
    most = 101 + 10 * (time.monotonic() - began)  # a burst, then ten a second
    assert server.rejections == 150
    assert 100 <= len([record for record in caplog.records if record.name == LOGGER]) <= most


def test_what_a_peer_writes_into_its_certificate_stays_on_one_line(world, shake, foreign, caplog):
    forged = world.ca.credential("/client", uris=("spiffe://a.test/x\nWARNING all is well",))
    shake(world.server(), foreign(forged))
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(
    "authorizer",
    [
        lambda _peer: 1 / 0,
        lambda _peer: False,
        lambda _peer: True,
        authorize_if(lambda _peer: {}["nothing"], "nobody"),
    ],
    ids=["raises", "returns False", "returns True", "its predicate raises"],
)
def test_a_broken_authorizer_refuses_and_the_server_goes_on(serve, world, authorizer):
    context = world.server(authorizer)
    with serve(context) as server:
        for _ in range(3):
            assert server.attempt(world.client()).answer == b""
        assert server.served == []
    assert context.rejections == 3


def test_an_authorizer_may_raise_even_system_exit_without_opening_the_gate(world, begin):
    def leave(_peer):
        raise SystemExit(3)

    handshake = begin(world.server(leave), world.client())
    with pytest.raises(SystemExit):
        handshake.finish()
    for use in (handshake.server.read, lambda: handshake.server.write(b"x"), handshake.server.do_handshake):
        with pytest.raises(SystemExit):  # the verdict is asked for again, and nothing else opens the gate
            use()
    assert handshake.server.peer_spiffe_id is None


class Moody:
    """An authorizer of somebody's own whose `trust_domains` fails, or answers nonsense, from some moment on."""

    failing: object = False

    def __call__(self, peer):
        pass

    def trust_domains(self):
        if self.failing is True:
            raise RuntimeError("no idea")
        return self.failing or None


class RottenTLS:
    """Stands for OpenSSL's object after a handshake, and fails at every question."""

    def __getattr__(self, name):
        raise RuntimeError(f"{name} is broken")


def test_whatever_fails_in_the_verdict_refuses(world):
    server = world.server()
    with pytest.raises(PeerVerificationError, match="RuntimeError: session_reused is broken"):
        server._verifier.verify(RottenTLS(), server._generation(), time.monotonic())
    assert server.rejections == 1


def test_a_source_that_fails_does_not_end_the_server(world, shake):
    class Source:
        failing = False

        @property
        def x509_context(self):
            if self.failing:
                raise KeyError("the cache is gone")
            return world.client_source.x509_context

        def _add_listener(self, listener):
            return world.client_source._add_listener(listener)

    world.server_source = source = Source()
    server = world.server()
    assert shake(server, world.client()).done
    source.failing = True
    with pytest.raises(IdentityUnavailableError, match="the source of identities failed with KeyError"):
        shake(server, world.client())


@pytest.mark.parametrize("failure", [True, 5], ids=["raises", "answers nonsense"])
def test_an_authorizer_that_fails_while_a_handshake_lasts_refuses(world, begin, failure):
    moody = Moody()
    server = world.server(moody, limits=TLSLimits(handshake_age=0))  # so that the newest bundles are looked at
    handshake = begin(server, world.client())
    moody.failing = failure
    error = handshake.finish().server_error
    assert isinstance(error, PeerVerificationError)
    assert "trust_domains() of the authorizer failed" in str(error)
    assert server.rejections == 1


def test_an_authorizer_that_fails_when_identities_rotate_fails_connections_and_not_the_server(world, shake, caplog):
    moody = Moody()
    server = world.server(moody)
    assert shake(server, world.client()).done
    moody.failing = True
    world.rotate_svids()
    assert "was not taken up" in caplog.text
    with pytest.raises(IdentityUnavailableError, match="trust_domains"):
        shake(server, world.client())
    moody.failing = False
    assert shake(server, world.client()).done


def test_a_leaf_without_any_form_is_refused_by_the_bootstrap_client_too(world, shake, foreign):
    client = unsafe_bootstrap_client_context(unsafe_authorize_any())
    error = shake(foreign(unparsable(world.ca), server=True), client).client_error
    assert isinstance(error, PeerVerificationError)


@pytest.mark.parametrize(
    "authorizer", [None, "spiffe://a.test/x", 3, asyncio.sleep], ids=["None", "text", "number", "async"]
)
def test_wrong_authorizers_are_refused_when_the_context_is_made(world, authorizer):
    with pytest.raises(InvalidAuthorizerError):
        mtls_client_context(world.client_source, authorizer)
    with pytest.raises(InvalidAuthorizerError):
        mtls_server_context(world.server_source, authorizer)


def test_a_leaf_that_cannot_be_parsed_is_refused_on_every_stack(serve, world, foreign):
    context = world.server(unsafe_authorize_any())
    with serve(context) as server:
        for _ in range(3):
            assert server.attempt(foreign(unparsable(world.ca))).answer == b""
        assert server.served == []
        assert server.attempt(world.client()).answer == b"spiffe://a.test/client"
    assert context.rejections == 3


def test_an_http_server_survives_every_refusal(world, foreign):
    """`serve_forever` ends at any exception from accept() that is not an OSError."""
    told = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = world.server(lambda peer: 1 / 0 if peer.path == "/bad" else None, on_rejected=told.append)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        for credential in (unparsable(world.ca), world.ca.credential("/bad"), TestCA("b.test").credential("/x"), None):
            assert request(server.server_port, foreign(credential)) == b""
        assert request(server.server_port, foreign(world.ca.credential("/good"))).startswith(b"HTTP/1.0 204")
        assert [type(each.reason) for each in told] == [
            InvalidX509SVIDError,
            type(told[1].reason),
            UntrustedPeerError,
            UntrustedPeerError,
        ]
        assert isinstance(told[1].reason, PeerNotAuthorizedError)
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def request(port, context):
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            context.wrap_socket(plain) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return tls.recv(1000)
    except OSError:
        return b""
