"""Whose turn it is: one server's at a time, and nobody's for ever, whoever holds the lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from authsec_sdk.spiffe import TrustDomain
from icp_server.ca.authority import self_signed
from icp_server.ca.keys import generate_private_key
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.config.connection_string import parse_connection_string
from icp_server.domain.errors import JournalConflictError
from icp_server.domain.key_type import KeyType
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.domain.svid_template import CASubject, ca_template, new_serial_number
from icp_server.services.housekeeping import MOST_PASSED, Housekeeping
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.store.turns import lock_key
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")


@pytest.fixture
def backend() -> str:
    return "postgres"


@pytest.fixture
async def other(place: PostgresSettings, clock: Any) -> AsyncIterator[SQLStore]:
    """Another server on the same database."""
    async with AsyncExitStack() as parts:
        database = await parts.enter_async_context(await Database.connect(place))
        yield await SQLStore.bind(database, TD, clock)


@pytest.fixture
def rotator_of(clock: Any) -> Callable[[SQLStore], AuthorityRotator]:
    """The CA of a server that has keys of its own."""

    def make(store: SQLStore) -> AuthorityRotator:
        signer = SVIDSigner(TD, Lifetimes(), clock)
        tokens = SVIDTokenSigner(TD, TokenSettings(), clock)
        return AuthorityRotator(store, MemoryKeyManager(), slot_kinds(store, signer, tokens, CASettings()), clock)

    return make


@contextmanager
def held_by_a_stranger(cluster: Cluster, database: str, key: int) -> Iterator[None]:
    """The attack: a role without rights on any table, on a database left open to everybody, holds the lock."""
    cluster.sql(f"GRANT CONNECT ON DATABASE {database} TO PUBLIC")
    with cluster.admin(database, "stranger") as stranger:
        assert stranger.execute(f"SELECT pg_try_advisory_lock({key})".encode()).fetchone() == (True,)
        yield


async def test_it_is_one_servers_at_a_time(store: SQLStore, other: SQLStore) -> None:
    async with store.turn("work") as mine, other.turn("work") as theirs, other.turn("other work") as another:
        assert (mine, theirs, another) == (True, False, True)
    async with other.turn("work") as theirs:
        assert theirs


async def test_who_waits_gets_it_when_the_other_is_done(store: SQLStore, other: SQLStore) -> None:
    inside = 0

    async def work(who: SQLStore) -> None:
        nonlocal inside
        async with who.turn("work", 60.0) as mine:
            assert mine
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.02)
            inside -= 1

    await asyncio.gather(*(work(who) for who in (store, other, store, other)))


async def test_trust_domains_do_not_wait_for_each_other(store: SQLStore, database: Database, clock: Any) -> None:
    elsewhere = await SQLStore.bind(database, TrustDomain("other.org"), clock)
    async with store.turn("work") as mine, elsewhere.turn("work") as theirs:
        assert (mine, theirs) == (True, True)


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_alone_it_is_always(store: SQLStore, backend: str) -> None:
    async with store.turn("work") as mine, store.turn("work") as again:
        assert (mine, again) == (True, True)


async def test_it_does_not_come_while_the_database_is_away(lonely_cluster: Cluster, clock: Any) -> None:
    settings = parse_connection_string(lonely_cluster.connection_string(lonely_cluster.new_database()))
    async with await Database.connect(settings) as database:
        store = await SQLStore.bind(database, TD, clock)
        lonely_cluster.stop()
        async with store.turn("work", 1.0) as mine:
            assert not mine
        await asyncio.to_thread(lonely_cluster.start)
        async with store.turn("work") as mine:
            assert mine


async def test_a_stranger_with_the_lock_keeps_nobody_from_pruning(
    store: SQLStore, place: PostgresSettings, cluster: Cluster, new_entry: Any, clock: Any
) -> None:
    soon = int((clock() + timedelta(minutes=1)).timestamp())
    await store.entries.create([new_entry(id="soon", expires_at=soon)])
    clock.forward(minutes=2)
    housekeeping = Housekeeping(store, clock)
    with held_by_a_stranger(cluster, place.database, lock_key(store._scope.row_id, "housekeeping")):
        for _ in range(MOST_PASSED):
            await housekeeping.step()
            assert await store.entries.get("soon") is not None
        await housekeeping.step()
        assert await store.entries.get("soon") is None


async def test_a_stranger_with_the_lock_keeps_nobody_from_rotating(
    store: SQLStore, place: PostgresSettings, cluster: Cluster, rotator_of: Any
) -> None:
    with held_by_a_stranger(cluster, place.database, lock_key(store._scope.row_id, "rotation")):
        rotator = rotator_of(store)
        await rotator.start()
    assert await store.bundles.get(TD) is not None


async def test_one_that_was_paused_with_the_lock_cannot_write(
    store: SQLStore, other: SQLStore, cluster: Cluster, place: PostgresSettings
) -> None:
    """It read the journal, was stopped, lost lock and connection; another took its turn; then it goes on."""
    journal = await store.journals.create(b"before")
    async with store.turn("rotation") as mine:
        assert mine
        key = lock_key(store._scope.row_id, "rotation")
        cluster.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' "
            f"AND objid = {key & 0xFFFFFFFF} AND granted"
        )
        async with other.turn("rotation", 10.0) as theirs:
            assert theirs
            [read] = await other.journals.all()
            await other.journals.replace(read, b"theirs")
        with pytest.raises(JournalConflictError):
            await store.journals.replace(journal, b"ours, too late")
    [kept] = await other.journals.all()
    assert kept.data == b"theirs"


async def test_of_servers_that_start_at_once_all_authorities_are_in_the_bundle(
    store: SQLStore, other: SQLStore, rotator_of: Any
) -> None:
    rotators = [rotator_of(store), rotator_of(other)]
    await asyncio.gather(*(rotator.start() for rotator in rotators))
    for each in (store, other):
        await each.changes_since(None)
        bundle = await each.bundles.get(TD)
        assert bundle is not None
        assert len(bundle.x509_authorities) == 2
    assert len(await store.journals.all()) == 2


async def test_appending_at_once_loses_nothing(store: SQLStore, other: SQLStore, clock: Any) -> None:
    roots = []
    for _ in range(10):
        template = ca_template(TD, clock(), timedelta(hours=24), CASubject(), new_serial_number())
        roots.append(self_signed(template, generate_private_key(KeyType.EC_P256))[0])
    await asyncio.gather(*((store, other)[n % 2].bundles.append_x509(root) for n, root in enumerate(roots)))
    await store.changes_since(None)
    bundle = await store.bundles.get(TD)
    assert bundle is not None
    assert len(bundle.x509_authorities) == 10
    assert bundle.sequence_number == 9
