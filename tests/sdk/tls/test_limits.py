"""Caps: what a hostile or broken federated domain can cost, and how it is said."""

import ssl
import time

import pytest

from authsec_sdk.authz import unsafe_authorize_any
from authsec_sdk.spiffe import BundleSet, TrustDomain, X509Bundle, X509Context
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import ConnectionEndedError, TLSLimits
from authsec_sdk.tls.limits import TokenBucket


@pytest.fixture(scope="module")
def many():
    return [TestCA("b.test").certificate for _ in range(12)]


def bundle(name, certificates):
    return X509Bundle(TrustDomain.parse(name), tuple(certificates))


def test_a_domain_with_too_many_authorities_is_set_aside_and_nobody_else(world, shake, foreign, many, caplog):
    server = world.server(unsafe_authorize_any(), limits=TLSLimits(authorities_per_domain=10))
    other = TestCA("c.test")
    world.publish(world.ca, bundle("b.test", many), other)
    assert shake(server, foreign(world.ca.credential("/x"))).server_error is None
    assert shake(server, foreign(other.credential("/x"))).server_error is None
    (aside,) = server.set_aside
    assert str(aside) == (
        "all authorities of trust_domain=b.test: it has 12 authorities, more than 10 (authorities_per_domain)"
    )
    assert str(aside) in caplog.text
    world.publish(world.ca, bundle("b.test", many[:10]), other)
    assert server.set_aside == ()


def test_the_total_is_capped_newest_domains_first_the_own_one_never(world, many):
    server = world.server(unsafe_authorize_any(), limits=TLSLimits(authorities=8))
    early, late = bundle("z.test", many[:4]), bundle("b.test", many[4:8])
    world.publish(early, world.ca)
    world.publish(late, early, world.ca)
    assert [each.trust_domain.name for each in server.set_aside] == ["b.test"]
    assert "(authorities)" in server.set_aside[0].why
    assert server.cert_store_stats()["x509_ca"] == 5


def test_updates_beyond_the_rate_are_taken_up_together_by_the_next_handshake(world, shake, caplog):
    server, client = world.server(limits=TLSLimits(rebuilds_per_second=0.001)), world.client()
    assert server.generation == 1
    world.rotate_svids()  # the bucket holds one token
    assert server.generation == 2
    for _ in range(20):
        world.rotate_svids()
    assert server.generation == 2
    assert shake(server, client).done
    assert caplog.text.count("Updates come faster than rebuilds_per_second=0.001") == 1


def test_what_was_put_off_is_taken_up_when_there_is_time_again(world, shake):
    server = world.server(limits=TLSLimits(rebuilds_per_second=0.2))
    client = world.client()
    assert server.generation == 1
    for _ in range(5):
        world.rotate_svids()
    newest = world.server_source.x509_context.svid
    assert server._generations.built is None  # behind
    server._generations._bucket = TokenBucket(1e9, 1)  # time passes
    assert shake(server, client).client.getpeercert(True) == newest.chain_der()[0]
    assert server._generations.built is not None


def test_connections_of_the_oldest_generation_end_where_too_many_are_alive(world, shake, caplog):
    limits = TLSLimits(live_generations=3, rebuilds_per_second=1e9)
    server, client = world.server(limits=limits), world.client()
    pipes = []
    for _ in range(5):
        pipes.append(shake(server, client))
        world.rotate_svids()
    assert len(server._generations.alive()) <= 3
    for pipe in pipes[:3]:
        with pytest.raises(ConnectionEndedError, match="outlived live_generations=3"):
            pipe.server.read()
        with pytest.raises(ConnectionEndedError):
            pipe.server.write(b"x")
        with pytest.raises(ssl.SSLError):
            pipe.server.unwrap()
    for pipe in pipes[3:]:
        assert pipe.to_server() == b"ping"
    assert "ended connections=1 of generation=1" in caplog.text
    assert shake(server, client).done


@pytest.mark.parametrize(
    "wrong",
    [
        {"authorities_per_domain": 0},
        {"authorities": 0},
        {"live_generations": 0},
        {"rebuilds_per_second": 0},
        {"handshake_age": -1},
    ],
    ids=str,
)
def test_wrong_limits(wrong):
    with pytest.raises(ValueError, match=r"."):
        TLSLimits(**wrong)


def test_a_bucket_holds_its_burst_and_refills_with_time():
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(100.4) is False
    assert bucket.take(100.5) is True
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.0) is False  # a clock that went back gives nothing


def test_two_hundred_updates_with_a_connection_each_pin_few_generations(world, shake):
    """Threat 17: each update of a hostile domain was built, and each build kept alive by a connection of its own.

    Two federated domains change with every update: one publishes two hundred authorities, one as many as are taken.
    """
    limits = TLSLimits(rebuilds_per_second=2, live_generations=8)
    server, client = world.server(unsafe_authorize_any(), limits=limits), world.client()
    number, begun = server.generation, time.monotonic()
    crowd, few = (
        [TestCA(name).certificate for _ in range(count)] for name, count in (("b.test", 202), ("c.test", 102))
    )
    snapshot = world.server_source.x509_context
    pipes = []
    for turn in range(200):
        hostile = bundle("b.test", crowd[turn % 2 :][:200]), bundle("c.test", few[turn % 3 :][:100])
        world.server_source.publish(X509Context(snapshot.svids, BundleSet.of(world.ca.bundle(), *hostile)))
        pipes.append(shake(server, client))
        assert pipes[-1].done
    assert server.generation - number <= 10 + (time.monotonic() - begun) * 2 + 1
    assert len(server._generations.alive()) <= 8
    assert server.cert_store_stats()["x509_ca"] == 101  # the own one, and no more of one domain than the cap
    ended = [pipe for pipe in pipes if isinstance(failure_of(pipe.server.read), ConnectionEndedError)]
    assert ended == pipes[: len(ended)], "the oldest connections end, and those of living generations go on"
    assert 0 < len(ended) < len(pipes)
    assert pipes[-1].to_server() == b"ping"


def failure_of(use):
    try:
        use()
    except ssl.SSLError as error:
        return error
    raise AssertionError("there was nothing to read")


def test_two_hundred_updates_cost_little_where_nobody_connects(world, caplog):
    """Threat 17: an authority more than the cap and one less, in turn, so that every update changes what is trusted."""
    server = world.server(unsafe_authorize_any(), limits=TLSLimits(rebuilds_per_second=1))
    number, begun = server.generation, time.monotonic()
    crowd = [TestCA("b.test").certificate for _ in range(101)]
    for turn in range(200):
        bundles = BundleSet.of(world.ca.bundle(), bundle("b.test", crowd[turn % 2 :]))
        world.server_source.publish(X509Context(world.server_source.x509_context.svids, bundles))
    elapsed = time.monotonic() - begun
    assert server.generation - number <= 5 + elapsed + 1
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) <= 20 + elapsed + 1
