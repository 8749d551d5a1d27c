"""Rotation under every load: threads, garbage collection, leaks, and what is not rebuilt."""

import gc
import ssl
import threading
import weakref
from pathlib import Path

import pytest

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.spiffe import X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import TLSLimits, mtls_client_context

UNLIMITED = TLSLimits(rebuilds_per_second=1e9)


def test_generations_are_built_by_whoever_publishes(world):
    """So that a handshake, on somebody's event loop, never waits for a build."""
    server = world.server()
    assert server.generation == 1
    publisher = threading.Thread(target=world.rotate_svids)
    publisher.start()
    publisher.join(30)
    assert server._generations.built is not None
    assert server._generations.built.svid == world.server_source.x509_context.svid
    assert server.generation == 2


def test_what_changes_nothing_for_a_context_builds_nothing(world, snapshot):
    server = world.server(authorize_member_of("a.test"))
    number = server.generation
    svid = world.server_source.x509_context.svid
    world.server_source.publish(snapshot(svid, world.ca))
    world.server_source.publish(snapshot(svid, world.ca, TestCA("b.test")))  # a domain that is never accepted
    assert server.generation == number
    world.ca.rotate()
    world.server_source.publish(snapshot(svid, world.ca))
    assert server.generation == number + 1


def test_every_view_is_built_ahead(world):
    server = world.server()
    views = [server, server.view(alpn=("h2",)), server.view(alpn=("http/1.1",))]
    world.rotate_svids()
    built = server._generations.built
    assert built is not None
    assert set(built.generations) == {view._settings for view in views}


def test_settings_that_change_all_the_time_do_not_pile_up(world):
    server = world.server()
    for number in range(100):
        server.set_alpn_protocols([f"p{number}"])
        assert server.generation
    assert len(server._generations.built.generations) <= 16


def test_threads_that_connect_while_identities_rotate_never_fail(world, shake):
    server, client = world.server(limits=UNLIMITED), world.client(limits=UNLIMITED)
    failures, done, stop = [], [], threading.Event()

    def connect():
        while not stop.is_set():
            try:
                pipe = shake(server, client)
            except Exception as error:  # what it may be is what we want to see
                failures.append(error)
            else:
                (done if pipe.done else failures).append(pipe.server_error or pipe.client_error)

    threads = [threading.Thread(target=connect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        world.rotate_svids()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(done) >= 8
    assert server._generations.built.svid == world.server_source.x509_context.svid


def test_publishers_in_several_threads_leave_the_newest_in_use(world):
    server = world.server(limits=UNLIMITED)
    publishers = [threading.Thread(target=lambda: [world.rotate_svids() for _ in range(20)]) for _ in range(4)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(60)
    server._generation()
    assert server._generations.built.svid == world.server_source.x509_context.svid


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_two_hundred_rotations_leak_neither_descriptors_nor_threads_nor_generations(world, shake):
    server, client = world.server(limits=UNLIMITED), world.client(limits=UNLIMITED)

    def rotate(times):
        for _ in range(times):
            world.rotate_svids()
            assert shake(server, client).done
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = rotate(5)
    assert rotate(200) == before
    assert len(server._generations.alive()) == 1


def test_a_dropped_context_ends_its_listening(world, snapshot):
    source = X509ContextHolder(snapshot(world.ca.svid("/x"), world.ca))
    kept = mtls_client_context(source, authorize_member_of("a.test"))
    dropped = mtls_client_context(source, authorize_member_of("a.test"))
    view = dropped.view()
    assert len(source._listeners) == 2
    reference = weakref.ref(dropped._generations)
    del dropped
    source.publish(snapshot(world.ca.svid("/x"), world.ca))
    assert len(source._listeners) == 2  # the view still uses it
    del view
    gc.collect()
    assert reference() is None
    source.publish(snapshot(world.ca.svid("/x"), world.ca))
    assert len(source._listeners) == 1
    assert kept.generation


def test_contexts_made_and_dropped_in_a_loop_do_not_pile_up_without_an_update(world):
    for _ in range(50):
        mtls_client_context(world.client_source, authorize_member_of("a.test"))
    gc.collect()
    kept = world.client()  # the next one made clears up after those before
    assert len(world.client_source._listeners) == 1
    assert kept.generation


def test_a_context_keeps_no_reference_to_a_dropped_source_or_the_reverse(world, snapshot):
    source = X509ContextHolder(snapshot(world.ca.svid("/x"), world.ca))
    context = mtls_client_context(source, authorize_member_of("a.test"))
    assert context.generation
    references = weakref.ref(source), weakref.ref(context)
    del source, context
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_an_existing_connection_goes_on_over_rotations(world, shake):
    pipe = shake(world.server(), world.client())
    for _ in range(3):
        world.ca.rotate()
        world.ca.remove_old_roots()
        world.publish(world.ca)
        assert pipe.to_server(b"still") == b"still"
        assert pipe.to_client(b"here") == b"here"


def test_a_listener_never_raises_into_the_publisher(world, snapshot, caplog):
    world.server_source = X509ContextHolder()
    server = world.server()
    world.server_source.publish(snapshot(None, world.ca))  # no SVID, and none before: nothing can be built
    assert "no identity to begin TLS with" in caplog.text
    with pytest.raises(ssl.SSLError):
        server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
