"""A handshake held open across a rotation: judged by what it began with, and after a while by the newest too."""

import threading

import pytest

from authsec_sdk.authz import unsafe_authorize_any
from authsec_sdk.spiffe import TrustDomain, X509Bundle
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import PeerVerificationError, TLSLimits

AT_ONCE = TLSLimits(handshake_age=0.0)  # every handshake is an old one


@pytest.fixture(params=["server", "client"])
def held(request, world, begin):
    """Begin a handshake in which one of our sides verifies, and finish it after the roots have changed."""

    def hold(limits, change):
        server = world.server(unsafe_authorize_any(), limits=limits)
        client = world.client(unsafe_authorize_any(), limits=limits)
        handshake = begin(server, client)
        change()
        pipe = handshake.finish()
        return pipe.server_error if request.param == "server" else pipe.client_error

    return hold


def remove_the_root(world):
    def change():
        world.ca.rotate()
        world.ca.remove_old_roots()
        world.publish(world.ca)

    return change


def test_one_that_is_quick_enough_is_judged_by_what_it_began_with(world, held):
    assert held(TLSLimits(), remove_the_root(world)) is None


def test_an_old_one_must_satisfy_the_newest_bundles(world, held):
    error = held(AT_ONCE, remove_the_root(world))
    assert isinstance(error, PeerVerificationError)
    assert "does not lead to an authority of its own trust domain" in str(error)


def test_an_old_one_goes_on_where_only_something_else_changed(world, held):
    def change():
        world.ca.rotate()
        world.publish(world.ca, TestCA("b.test"))

    assert held(AT_ONCE, change) is None


def test_an_old_one_is_refused_where_the_domain_is_gone(world, held):
    def change():
        world.publish(X509Bundle(TrustDomain.parse("b.test"), ()))

    error = held(AT_ONCE, change)
    assert "no bundle for trust domain a.test" in str(error)


def test_an_old_one_is_refused_where_the_source_was_closed(world, held):
    def change():
        world.server_source.close()
        world.client_source.close()

    assert "closed" in str(held(AT_ONCE, change))


def test_age_is_measured_from_the_first_moment_to_the_last(world, begin):
    limits = TLSLimits(handshake_age=0.05)
    handshake = begin(world.server(limits=limits), world.client())
    remove_the_root(world)()
    threading.Event().wait(0.1)
    assert isinstance(handshake.finish().server_error, PeerVerificationError)
