"""Two servers of two trust domains: what one publishes the other follows, and what is older or unproven it does not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.errors import SpiffeError
from authsec_sdk.federation import RefreshPolicy
from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, types_pb2
from authsec_sdk.spiffe import SpiffeID, TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.testing import TestCA
from icp_server.config.federation import Federation, ServedBundle
from icp_server.domain.federation import DeleteMode, Endpoint, FederationRelationship, RelationshipChanges
from icp_server.federation.refresher import FederationRefresher
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio

FED = TrustDomain("fed.example")
SERVER = SpiffeID.parse("spiffe://fed.example/spire/server")
QUICK = RefreshPolicy(default=0.05, minimum=0.02, maximum=0.1)
PATIENCE = 60


@pytest.fixture
async def foreign(start_server: Any) -> Any:
    """A server of another trust domain, with a bundle endpoint."""
    return await start_server(trust_domain=FED, federation=Federation(ServedBundle("127.0.0.1", 0)))


@pytest.fixture
def endpoint(foreign: Any) -> Endpoint:
    return Endpoint(f"https://127.0.0.1:{foreign.app.bundle_address[1]}/", SERVER)


async def published(foreign: Any) -> types_pb2.Bundle:
    return await bundle_grpc.BundleStub(foreign.admin).GetBundle(bundle_pb2.GetBundleRequest())


async def append(foreign: Any) -> None:
    (root,) = TestCA(FED.name).bundle().authorities
    added = types_pb2.X509Certificate(asn1=root.public_bytes(Encoding.DER))
    await bundle_grpc.BundleStub(foreign.admin).AppendBundle(bundle_pb2.AppendBundleRequest(x509_authorities=[added]))


async def first_bundle(store: SQLStore, foreign: Any) -> None:
    await store.bundles.set(PublishedBundle(TrustBundle(FED, (await foreign.bundle()).authorities)))


@contextlib.asynccontextmanager
async def running(refresher: FederationRefresher) -> AsyncIterator[None]:
    task = asyncio.create_task(refresher.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(store: SQLStore, number: int, authorities: int) -> TrustBundle:
    with anyio.fail_after(PATIENCE):
        while True:
            known = await store.bundles.get(FED)
            if known is not None and (known.sequence_number, len(known.x509_authorities)) == (number, authorities):
                return known
            await asyncio.sleep(0.02)


async def test_a_bundle_is_fetched_at_once_and_followed(store: SQLStore, foreign: Any, endpoint: Endpoint) -> None:
    await first_bundle(store, foreign)
    refresher = FederationRefresher(store, {FED: endpoint}, policy=QUICK)
    async with running(refresher):
        before = (await published(foreign)).sequence_number
        known = await until(store, before, 1)
        assert known.jwt_authorities
        assert known.refresh_hint == timedelta(minutes=5)
        await append(foreign)
        await until(store, before + 1, 2)


async def test_relationships_come_and_go(store: SQLStore, foreign: Any, endpoint: Endpoint) -> None:
    refresher = FederationRefresher(store, {}, policy=QUICK)
    async with running(refresher):
        assert not await refresher.refresh(FED)
        given = PublishedBundle(TrustBundle(FED, (await foreign.bundle()).authorities))
        await store.relationships.create(FederationRelationship(FED, endpoint, given))
        refresher.reload()
        number = (await published(foreign)).sequence_number
        await until(store, number, 1)
        await store.relationships.delete(FED)
        assert not await refresher.refresh(FED)
        await append(foreign)
        kept = await store.bundles.get(FED)
        assert kept is not None
        assert kept.sequence_number == number


async def test_the_configuration_wins_over_the_api(store: SQLStore, foreign: Any, endpoint: Endpoint) -> None:
    await first_bundle(store, foreign)
    wrong = Endpoint("https://127.0.0.1:1/", SERVER)
    await store.relationships.create(FederationRelationship(FED, wrong))
    assert await FederationRefresher(store, {FED: endpoint}).refresh(FED)
    with pytest.raises(SpiffeError):
        await FederationRefresher(store, {}).refresh(FED)
    await store.relationships.update(RelationshipChanges(FED, url=endpoint.url))
    assert await FederationRefresher(store, {}).refresh(FED)


async def test_without_a_first_bundle_nothing_is_asked(store: SQLStore, endpoint: Endpoint) -> None:
    with pytest.raises(SpiffeError, match=r"no bundle of fed\.example is known"):
        await FederationRefresher(store, {FED: endpoint}).refresh(FED)
    assert await store.bundles.get(FED) is None


@pytest.mark.parametrize("who", ["spiffe://fed.example/spire/other", "spiffe://example.org/spire/server"])
async def test_a_server_that_is_not_the_named_one_is_not_believed(
    server: Any, store: SQLStore, foreign: Any, endpoint: Endpoint, who: str
) -> None:
    await first_bundle(store, foreign)
    before = await store.bundles.get(FED)
    wrong = Endpoint(endpoint.url, SpiffeID.parse(who))
    with pytest.raises(SpiffeError):
        await FederationRefresher(store, {FED: wrong}).refresh(FED)
    assert await store.bundles.get(FED) == before


async def test_an_impostor_changes_nothing(store: SQLStore, foreign: Any, endpoint: Endpoint) -> None:
    """The first bundle is another's with the same name: its holder cannot be what answers."""
    given = TrustBundle(FED, TestCA(FED.name).bundle().authorities)
    await store.bundles.set(PublishedBundle(given))
    with pytest.raises(SpiffeError):
        await FederationRefresher(store, {FED: endpoint}).refresh(FED)
    kept = await store.bundles.get(FED)
    assert kept is not None
    assert kept.x509_authorities == given.x509_authorities


async def test_an_older_bundle_is_refused_and_the_last_good_one_kept(
    store: SQLStore, foreign: Any, endpoint: Endpoint
) -> None:
    authorities = (await foreign.bundle()).authorities
    await store.bundles.set(PublishedBundle(TrustBundle(FED, authorities, sequence_number=1000)))
    with pytest.raises(SpiffeError, match="an older one"):
        await FederationRefresher(store, {FED: endpoint}).refresh(FED)
    kept = await store.bundles.get(FED)
    assert kept is not None
    assert kept.sequence_number == 1000


async def test_an_operator_may_begin_anew(store: SQLStore, foreign: Any, endpoint: Endpoint) -> None:
    """The publisher lost its database and counts from the beginning: a bundle set by hand makes room for that."""
    await first_bundle(store, foreign)
    refresher = FederationRefresher(store, {FED: endpoint})
    await append(foreign)
    await refresher.refresh(FED)
    number = (await published(foreign)).sequence_number
    fetched = await store.bundles.get(FED)
    assert fetched is not None
    assert fetched.sequence_number == number
    await first_bundle(store, foreign)  # without a number, and other authorities
    await refresher.refresh(FED)
    again = await store.bundles.get(FED)
    assert again is not None
    assert again.sequence_number == number


async def test_a_deleted_bundle_of_a_deleted_relationship_stays_deleted(
    store: SQLStore, foreign: Any, endpoint: Endpoint
) -> None:
    given = PublishedBundle(TrustBundle(FED, (await foreign.bundle()).authorities))
    await store.relationships.create(FederationRelationship(FED, endpoint, given))
    refresher = FederationRefresher(store, {}, policy=QUICK)
    async with running(refresher):
        await until(store, (await published(foreign)).sequence_number, 1)
        await store.relationships.delete(FED)
        refresher.reload()
        await store.bundles.delete(FED, DeleteMode.RESTRICT)
        await asyncio.sleep(0.3)
    assert await store.bundles.get(FED) is None


async def test_a_failure_is_said_and_tried_again(
    store: SQLStore, foreign: Any, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    refresher = FederationRefresher(store, {FED: endpoint}, policy=QUICK)
    with caplog.at_level(logging.INFO, logger="icp_server.federation"):
        async with running(refresher):
            with anyio.fail_after(PATIENCE):
                while "nothing is known yet" not in caplog.text:
                    await asyncio.sleep(0.01)
            await first_bundle(store, foreign)
            await until(store, (await published(foreign)).sequence_number, 1)
            with anyio.fail_after(PATIENCE):
                while "answers again" not in caplog.text:
                    await asyncio.sleep(0.01)
