"""What the observer of a source hears of the TLS contexts over it, and what it cannot break."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import NoBundleForTrustDomainError, PeerNotAuthorizedError, UntrustedPeerError
from authsec_sdk.spiffe import BundleSet, SpiffeID, X509Context, X509ContextHolder
from authsec_sdk.telemetry import (
    Event,
    GenerationMade,
    HandshakeCompleted,
    Rejection,
    observe_all,
    observer_of,
    refusal_class,
)
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import mtls_client_context, mtls_server_context, tls_server_context

WEB = SpiffeID.parse("spiffe://example.org/web")
API = SpiffeID.parse("spiffe://example.org/api")


@pytest.fixture
def ca() -> TestCA:
    return TestCA("example.org")


def context(ca: TestCA, spiffe_id: SpiffeID) -> X509Context:
    return X509Context((ca.svid(spiffe_id),), BundleSet.of(ca.bundle()))


def test_both_sides_hear_who_the_peer_is_and_who_they_are(ca: TestCA, shake: Callable[..., Any]) -> None:
    served: list[Event] = []
    called: list[Event] = []
    server = mtls_server_context(X509ContextHolder(context(ca, API), observer=served.append), authorize_id(WEB))
    client = mtls_client_context(X509ContextHolder(context(ca, WEB), observer=called.append), authorize_id(API))
    assert shake(server, client).done
    made, completed = called
    assert made == GenerationMade("client", 1)
    assert isinstance(completed, HandshakeCompleted)
    assert (completed.role, completed.peer, completed.own, completed.generation) == ("client", API, WEB, 1)
    assert completed.seconds > 0
    assert [(event.peer, event.own) for event in served if isinstance(event, HandshakeCompleted)] == [(WEB, API)]


def test_a_side_that_asks_for_no_certificate_names_no_peer(ca: TestCA, shake: Callable[..., Any]) -> None:
    heard: list[Event] = []
    server = tls_server_context(X509ContextHolder(context(ca, API), observer=heard.append))
    assert shake(server, mtls_client_context(X509ContextHolder(context(ca, WEB)), authorize_id(API))).done
    (completed,) = (event for event in heard if isinstance(event, HandshakeCompleted))
    assert (completed.peer, completed.own) == (None, API)


def test_a_rotation_makes_a_generation(ca: TestCA, shake: Callable[..., Any]) -> None:
    heard: list[Event] = []
    source = X509ContextHolder(context(ca, API), observer=heard.append)
    server = mtls_server_context(source, authorize_id(WEB))
    client = mtls_client_context(X509ContextHolder(context(ca, WEB)), authorize_id(API))
    assert shake(server, client).done
    source.publish(context(ca, API))
    assert shake(server, client).done
    assert [event.number for event in heard if isinstance(event, GenerationMade)] == [1, 2]
    assert [event.generation for event in heard if isinstance(event, HandshakeCompleted)] == [1, 2]


def test_a_refusal_is_told_with_its_class_and_no_handshake_is(ca: TestCA, shake: Callable[..., Any]) -> None:
    heard: list[Event] = []
    source = X509ContextHolder(context(ca, API), observer=heard.append)
    server = mtls_server_context(source, authorize_id("spiffe://example.org/billing"))
    assert not shake(server, mtls_client_context(X509ContextHolder(context(ca, WEB)), authorize_id(API))).done
    (refused,) = (event for event in heard if isinstance(event, Rejection))
    assert (refused.spiffe_id, refusal_class(refused.reason)) == (WEB, "not_authorized")
    assert not [event for event in heard if isinstance(event, HandshakeCompleted)]


def test_an_observer_that_fails_breaks_neither_verdict(
    ca: TestCA, shake: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Event) -> None:
        raise RuntimeError(f"no room for {event}")

    heard: list[Event] = []
    source = X509ContextHolder(context(ca, API), observer=observe_all(fails, heard.append))
    client = mtls_client_context(X509ContextHolder(context(ca, WEB)), authorize_member_of("example.org"))
    with caplog.at_level(logging.ERROR, "authsec_sdk.telemetry"):
        accepted = shake(mtls_server_context(source, authorize_id(WEB)), client)
        refused = shake(mtls_server_context(source, authorize_id(API)), client)
    assert accepted.done
    assert accepted.to_server() == b"ping"
    assert not refused.done
    assert isinstance(refused.server_error.reason, PeerNotAuthorizedError)
    assert {type(event) for event in heard} == {GenerationMade, HandshakeCompleted, Rejection}
    assert "observer failed" in caplog.text


def test_an_observer_may_make_a_connection_itself(ca: TestCA, shake: Callable[..., Any]) -> None:
    client = mtls_client_context(X509ContextHolder(context(ca, WEB)), authorize_id(API))
    results: list[bool] = []

    def connects(event: Event) -> None:
        if isinstance(event, GenerationMade):
            results.append(shake(server, client).done)

    server = mtls_server_context(X509ContextHolder(context(ca, API), observer=connects), authorize_id(WEB))
    assert shake(server, client).done
    assert results == [True]


@pytest.mark.parametrize("source", [object(), X509ContextHolder()])
def test_a_source_needs_no_observer(source: object) -> None:
    assert observer_of(source) is None


def test_what_a_foreign_source_calls_observer_may_be_anything() -> None:
    class Foreign:
        observer = "a telescope"

    assert observer_of(Foreign()) is None


def test_classes_of_refusals_are_few() -> None:
    assert refusal_class(NoBundleForTrustDomainError(WEB.trust_domain)) == "no_bundle"
    assert refusal_class(UntrustedPeerError("whoever")) == "untrusted"
