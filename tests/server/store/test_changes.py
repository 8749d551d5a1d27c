"""The log of changes that servers and agents follow: in the order of commits, of one epoch, told by whoever wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID, TrustBundle, TrustDomain
from authsec_sdk.spire.agents import JoinToken
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.agent import Agent
from icp_server.domain.federation import DeleteMode
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.domain.revision import Revision
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.store.scope import bind, channel_of
from icp_server.store.wakes import PostgresWakes
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")
AGENT = SpiffeID.parse("spiffe://example.org/spire/agent/join_token/a")
PATIENCE = 60.0

Connect = Callable[[], Any]


@pytest.fixture
async def connect(place: Any, clock: Any) -> AsyncIterator[Connect]:
    """Connect to the database once more, as another server does."""
    async with AsyncExitStack() as parts:

        async def connect() -> SQLStore:
            database = await parts.enter_async_context(await Database.connect(place))
            return await SQLStore.bind(database, TD, clock)

        yield connect


async def test_agents_and_entries_are_told_by_name(store: SQLStore, new_entry: Any, clock: Any) -> None:
    start = (await store.changes_since(None)).revision
    await store.entries.create([new_entry("a", id="a"), new_entry("b", id="b")])
    await store.agents.save_attested(Agent(AGENT, "join_token", "1", 2**40))
    told = await store.changes_since(start)
    assert not told.complete
    assert told.entries == {"a", "b"}
    assert told.agents == {AGENT}
    assert told.revision.position == start.position + 2
    for write in (
        store.agents.set_new_certificate(Agent(AGENT, "join_token", "1", 2**40), "2", 2**40),
        store.agents.promote(AGENT, "2"),
        store.agents.set_version(AGENT, "1.0"),
        store.agents.ban(AGENT),
        store.agents.delete(AGENT, None),
    ):
        before = (await store.changes_since(None)).revision
        await write
        assert (await store.changes_since(before)).agents == {AGENT}


async def test_what_changes_with_something_else_is_told_too(store: SQLStore, new_entry: Any, clock: Any) -> None:
    alias = new_entry("node", parent="spire/agent/join_token/t", selectors=f"spiffe_id:{AGENT}", id="alias")
    start = (await store.changes_since(None)).revision
    await store.join_tokens.create(JoinToken("t", 2**40), alias)
    assert (await store.changes_since(start)).entries == {"alias"}


async def test_every_write_of_a_bundle_is_told(store: SQLStore, server: Any) -> None:
    """Not by sequence numbers: those of other trust domains are theirs, and need not change."""
    foreign = PublishedBundle(TrustBundle(TrustDomain("other.example"), sequence_number=7))
    seen = [dict((await store.changes_since(None)).bundles)]
    assert list(seen[0]) == [TD.name]
    for work in (
        store.bundles.set(foreign),
        store.bundles.set(foreign),
        store.bundles.delete(TrustDomain("other.example"), DeleteMode.RESTRICT),
        store.bundles.set(foreign),
    ):
        await work
        seen.append(dict((await store.changes_since(None)).bundles))
    assert seen[3] == seen[0]
    assert all(one != other for place, one in enumerate(seen[:3]) for other in seen[place + 1 : 3])
    assert seen[4] not in seen[:4]


async def test_a_position_of_another_epoch_tells_nothing(store: SQLStore, new_entry: Any) -> None:
    """A database put back from a copy counts anew what it counted before."""
    await store.entries.create([new_entry(id="a")])
    now = store.entries.revision()
    assert not Revision("another", now.position).covers(now)
    assert not now.covers(Revision("another", now.position - 1))
    told = await store.changes_since(replace(now, epoch="another"))
    assert told.complete
    assert told.revision == now
    ahead = await store.changes_since(replace(now, position=now.position + 1))
    assert ahead.complete


async def test_epochs_differ(store: SQLStore, database: Database, clock: Any) -> None:
    other = await SQLStore.bind(database, TrustDomain("other.org"), clock)
    epochs = {store.entries.revision().epoch, other.entries.revision().epoch}
    assert len(epochs) == 2
    assert all(len(epoch) >= 32 for epoch in epochs)


async def test_the_log_is_trimmed_and_says_so(store: SQLStore, database: Database, new_entry: Any) -> None:
    await store.entries.create([new_entry("a", id="a")])
    old = store.entries.revision()

    async def far(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE trust_domains SET position = 20098"))

    await database.write(far)
    await store.entries.create([new_entry("b", id="b")])
    await store.entries.create([new_entry("c", id="c")])  # position 20100: the log is trimmed
    async with database.read() as connection:
        kept = (await connection.execute(text("SELECT name FROM changes ORDER BY id"))).scalars().all()
    assert kept == ["b", "c"]
    told = await store.changes_since(old)
    assert told.complete
    delta = await store.entries.changes_since(old)
    assert {entry.id for entry in delta.changed} == {"a", "b", "c"}


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
class TestSeveralServers:
    async def test_a_transaction_that_began_first_and_commits_last_is_not_missed(
        self, place: PostgresSettings, clock: Any, new_entry: Any, connect: Connect
    ) -> None:
        """The attack: one deletes, and lingers before its commit; meanwhile another commits and a reader moves on.

        With positions taken from a sequence, or at the beginning, the reader would resume behind the deletion.
        """
        first, second, reader = [await connect() for _ in range(3)]
        await first.entries.create([new_entry("gone", id="gone")])
        start = (await reader.changes_since(None)).revision
        lingering, go_on = asyncio.Event(), asyncio.Event()
        async with await Database.connect(place) as database:
            scope = await bind(database, TD, clock)

            async def delete(connection: AsyncConnection) -> None:
                await connection.execute(text("DELETE FROM entries WHERE entry_id = 'gone'"))
                await scope.note(connection, entries=["gone"])
                lingering.set()
                await go_on.wait()

            deleting = asyncio.ensure_future(scope.write(delete))
            await lingering.wait()
            creating = asyncio.ensure_future(second.entries.create([new_entry("new", id="new")]))
            # However long the other tries, no position is seen beyond one that is not.
            for _ in range(50):
                told = await reader.changes_since(start)
                assert told.revision == start
                assert told.entries == frozenset()
                await asyncio.sleep(0.005)
            assert not creating.done()
            go_on.set()
            await deleting
            await creating
        told = await reader.changes_since(start)
        assert told.entries == {"gone", "new"}
        assert told.revision.position == start.position + 2

    async def test_many_writers_and_a_reader_that_resumes_all_the_time(self, new_entry: Any, connect: Connect) -> None:
        stores = [await connect() for _ in range(3)]
        reader = await connect()
        revision = (await reader.changes_since(None)).revision
        seen: set[str] = set()
        done = False

        async def write(store: SQLStore, name: str) -> None:
            for n in range(15):
                await store.entries.create([new_entry(f"{name}/{n}", id=f"{name}{n}")])
                await store.entries.delete([f"{name}{n}"])

        async def follow() -> None:
            nonlocal revision
            while True:
                last = done
                told = await reader.changes_since(revision)
                assert not told.complete
                assert told.revision.covers(revision)
                seen.update(told.entries)
                revision = told.revision
                if last:
                    return

        following = asyncio.ensure_future(follow())
        async with asyncio.TaskGroup() as group:
            for number, store in enumerate(stores):
                group.create_task(write(store, f"s{number}-"))
        done = True
        await following
        assert seen == {f"s{number}-{n}" for number in range(3) for n in range(15)}

    async def test_another_servers_ban_is_known_once_followed(self, connect: Connect) -> None:
        here, there = await connect(), await connect()
        await here.agents.save_attested(Agent(AGENT, "join_token", "1", 2**40))
        start = (await there.changes_since(None)).revision
        known = await there.agents.get(AGENT)
        assert known is not None
        assert not known.banned
        await here.agents.ban(AGENT)
        fresh = await there.agents.get(AGENT, fresh=True)
        assert fresh is not None
        assert fresh.banned
        await here.agents.delete(AGENT, None)
        await there.changes_since(start)
        assert await there.agents.get(AGENT) is None

    async def test_a_reader_never_keeps_what_it_read_before_it_was_told(self, connect: Connect) -> None:
        here, there = await connect(), await connect()
        await here.agents.save_attested(Agent(AGENT, "join_token", "1", 2**40))
        revision = (await there.changes_since(None)).revision
        for serial in range(2, 30):
            reading = asyncio.ensure_future(there.agents.get(AGENT, fresh=True))
            await here.agents.save_attested(Agent(AGENT, "join_token", str(serial), 2**40))
            revision = (await there.changes_since(revision)).revision
            await reading
            known = await there.agents.get(AGENT)
            assert known is not None
            assert known.serial_number == str(serial)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
class TestNotifications:
    @pytest.fixture
    async def wakes(self, store: SQLStore) -> AsyncIterator[PostgresWakes]:
        wakes = store.wakes()
        assert wakes is not None
        task = asyncio.ensure_future(wakes.run())
        with anyio.fail_after(PATIENCE):
            await wakes.wait(PATIENCE)  # it listens
        yield wakes
        task.cancel()
        await asyncio.wait({task})

    async def test_a_write_of_another_server_wakes(
        self, wakes: PostgresWakes, connect: Connect, new_entry: Any
    ) -> None:
        other = await connect()
        waiting = asyncio.ensure_future(wakes.wait(PATIENCE * 10))
        await other.entries.create([new_entry(id="a")])
        with anyio.fail_after(PATIENCE):
            await waiting

    async def test_one_that_is_lost_costs_the_polls_pause(self, wakes: PostgresWakes) -> None:
        with anyio.fail_after(PATIENCE):
            await wakes.wait(0.01)

    async def test_a_listener_whose_connection_ends_listens_again(
        self, wakes: PostgresWakes, place: PostgresSettings, cluster: Cluster
    ) -> None:
        kill = (
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{place.database}' "
            "AND query LIKE 'LISTEN%'"
        )
        assert cluster.sql(kill) == [(True,)]
        with anyio.fail_after(PATIENCE):
            await wakes.wait(PATIENCE * 10)  # woken by listening anew: what came meanwhile was not heard

    async def test_forged_notifications_wake_and_do_nothing_else(
        self, wakes: PostgresWakes, store: SQLStore, place: PostgresSettings, cluster: Cluster, new_entry: Any
    ) -> None:
        """A role with no rights on any table, on a database whose owner left it open to everybody."""
        await store.entries.create([new_entry(id="a")])
        cluster.sql(f"GRANT CONNECT ON DATABASE {place.database} TO PUBLIC")
        before = await store.changes_since(None)
        channel = channel_of(store._scope.row_id)
        flood = "; ".join([f'NOTIFY {channel}, \'{{"position": 999, "removed": ["a"]}} {n}\'' for n in range(500)])
        sending = asyncio.ensure_future(asyncio.to_thread(cluster.sql, flood, place.database, "stranger"))
        loop = asyncio.get_running_loop()
        began, wakeups = loop.time(), 0
        with anyio.fail_after(PATIENCE):
            while not sending.done() or wakeups == 0:
                await wakes.wait(0.05)
                wakeups += 1
                assert await store.changes_since(before.revision) == replace(before, complete=False)
        assert wakeups <= (loop.time() - began) / 0.01 + 1  # coalesced, however many came
        assert (await store.entries.get("a")) is not None
