"""Inner contexts are shared by all who need the very same; policy, tickets and settings are not shared with them."""

import gc
import ssl
import weakref

import pytest

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import PeerVerificationError


def inner(context):
    return context._generation().inner


def test_contexts_of_one_source_share_theirs_and_not_their_policy(world, shake):
    kind, strict = world.server(), world.server(authorize_id("spiffe://a.test/other"))
    assert inner(kind) is inner(strict)
    assert shake(kind, world.client()).done
    assert isinstance(shake(strict, world.client()).server_error, PeerVerificationError)
    assert (kind.rejections, strict.rejections) == (0, 1)
    world.rotate_svids()
    assert inner(kind) is inner(strict)


def test_what_differs_is_not_shared(world):
    base = world.server()
    others = [
        world.server(resumption=True),
        world.server(resumption=True),
        world.server(alpn=("h2",)),
        world.server(minimum_version=ssl.TLSVersion.TLSv1_2),
        world.server(client_certificate="request"),
        world.client(),
    ]
    world.client_source = world.server_source
    others.append(world.client())
    found = [inner(each) for each in (base, *others)]
    assert len(set(map(id, found))) == len(found)


def test_authorizers_of_other_domains_trust_other_authorities(world):
    world.publish(world.ca, TestCA("b.test"))
    both, one = world.server(authorize_member_of("a.test", "b.test")), world.server()
    assert inner(both) is not inner(one)
    assert (both.cert_store_stats()["x509_ca"], one.cert_store_stats()["x509_ca"]) == (2, 1)


def test_each_server_of_tls_1_2_builds_its_own_for_each_connection(world):
    server = world.server(minimum_version=ssl.TLSVersion.TLSv1_2)
    generation = server._generation()
    built = [generation.context_for_connection() for _ in range(3)]
    assert len({*map(id, built), id(generation.inner)}) == 4


def test_what_nobody_uses_any_more_is_gone(world):
    first, second = world.server(), world.server()
    reference = weakref.ref(inner(first))
    assert inner(second) is reference()
    del first
    gc.collect()
    assert reference() is inner(second)
    world.rotate_svids()
    assert inner(second) is not reference()
    gc.collect()
    assert reference() is None
    made = second._generations._memory.inners._made
    assert len(made) == 1
    del second
    gc.collect()
    assert len(made) == 0


def test_an_identity_at_the_address_of_a_dropped_one_is_not_taken_for_it(world, shake):
    """The identity of a recipe is told by its address, which is free again only when no inner context has it."""
    server = world.server()
    for _ in range(10):
        world.rotate_svids()
        gc.collect()
        pipe = shake(server, world.client())
        assert pipe.client.getpeercert(True) == world.server_source.x509_context.svid.chain_der()[0]


def test_the_callback_for_server_names_is_told_the_facade_it_belongs_to(world, shake):
    seen = []

    def callback(_connection, _name, context):
        seen.append(context)

    servers = [world.server(), world.server()]
    for server in servers:
        server.sni_callback = callback
    assert inner(servers[0]) is inner(servers[1])
    for server in servers:
        assert shake(server, world.client()).done
    assert seen == servers


@pytest.mark.parametrize("times", [3])
def test_a_rotation_builds_once_for_many_contexts(world, times):
    servers = [world.server() for _ in range(20)]
    assert all(server.generation for server in servers)
    for _ in range(times):
        world.rotate_svids()
        assert len({id(inner(server)) for server in servers}) == 1
