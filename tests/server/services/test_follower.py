"""What another server writes is known here at once; and without the database this one goes on from what it knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import EntryChanges
from icp_server.ca.authority import self_signed
from icp_server.ca.keys import generate_private_key
from icp_server.config.connection_string import parse_connection_string
from icp_server.domain.agent import Agent
from icp_server.domain.errors import Unavailable
from icp_server.domain.key_type import KeyType
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.domain.svid_template import CASubject, ca_template, new_serial_number
from icp_server.services.entries import EntryService
from icp_server.services.follower import Follower
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")
AGENT = Agent(SpiffeID.parse("spiffe://example.org/agent"), "join_token", "1", 2**40)
PATIENCE = 60.0


@dataclass
class Member:
    """One of several servers."""

    store: SQLStore
    entries: EntryService
    follower: Follower
    refreshed: list[None] = field(default_factory=list)

    async def served(self) -> set[str]:
        return {entry.id for entry in await self.entries.authorized(AGENT)}

    async def until_served(self, wanted: set[str]) -> None:
        with anyio.fail_after(PATIENCE):
            while await self.served() != wanted:
                await asyncio.sleep(0.005)


Join = Callable[..., Any]


@pytest.fixture
def root(clock: Any) -> bytes:
    """The certificate of an authority, as the bundle holds it."""
    template = ca_template(TD, clock(), timedelta(hours=24), CASubject(), new_serial_number())
    return self_signed(template, generate_private_key(KeyType.EC_P256))[0]


@pytest.fixture
async def join(clock: Any) -> AsyncIterator[Join]:
    """Start a server's inner parts on a database."""
    async with AsyncExitStack() as parts:

        async def join(settings: PostgresSettings, *, running: bool = True, **options: Any) -> Member:
            database = await parts.enter_async_context(await Database.connect(settings))
            store = await SQLStore.bind(database, TD, clock)
            entries = EntryService(store, clock)
            refreshed: list[None] = []

            async def refresh() -> None:
                refreshed.append(None)

            wakes = store.wakes()
            assert wakes is not None
            follower = Follower(store, entries, wakes, clock, on_bundles=refresh, **options)
            if running:
                task = asyncio.ensure_future(follower.run())

                async def stop() -> None:
                    task.cancel()
                    await asyncio.wait({task})

                parts.push_async_callback(stop)
            return Member(store, entries, follower, refreshed)

        yield join


async def test_what_one_writes_the_other_serves(join: Join, new_postgres: Any, new_entry: Any) -> None:
    settings = new_postgres()
    one, two = await join(settings), await join(settings)
    assert await two.served() == set()
    await one.entries.create([new_entry("a", id="a"), new_entry("b", id="b")])
    await two.until_served({"a", "b"})
    await two.entries.update([EntryChanges(id="a", hint="x")])
    await one.entries.delete(["b"])
    await two.until_served({"a"})
    await one.until_served({"a"})
    [kept] = await one.entries.authorized(AGENT)
    assert kept.hint == "x"


async def test_without_notifications_the_poll_finds_it(
    join: Join, new_postgres: Any, new_entry: Any, cluster: Cluster
) -> None:
    settings = new_postgres()
    one, two = await join(settings), await join(settings, poll=timedelta(milliseconds=50))
    listening = f"SELECT pid FROM pg_stat_activity WHERE datname = '{settings.database}' AND query LIKE 'LISTEN%'"
    with anyio.fail_after(PATIENCE):
        while len(pids := cluster.sql(listening)) < 2:
            await asyncio.sleep(0.01)
    for (pid,) in pids:
        cluster.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
    await one.entries.create([new_entry("a", id="a")])
    await two.until_served({"a"})


async def test_an_entry_just_created_elsewhere_is_found_before_the_answer_is_no(
    join: Join, new_postgres: Any, new_entry: Any
) -> None:
    settings = new_postgres()
    one, two = await join(settings, running=False), await join(settings, running=False)
    assert await two.served() == set()
    await one.entries.create([new_entry("a", id="a")])
    assert set(await two.entries.authorized_by_id(AGENT)) == set()
    assert set(await two.entries.authorized_by_id(AGENT, ["a"])) == {"a"}


async def test_a_changed_bundle_is_taken_over(join: Join, new_postgres: Any, root: bytes) -> None:
    settings = new_postgres()
    one, two = await join(settings, running=False), await join(settings, running=False)
    await two.follower.step()
    assert await two.store.bundles.get(TD) is None
    before = len(two.refreshed)
    made = await one.store.bundles.append_x509(root)
    assert await two.store.bundles.get(TD) is None  # remembered
    await two.follower.step()
    assert await two.store.bundles.get(TD) == made
    assert len(two.refreshed) == before + 1
    await two.follower.step()
    assert len(two.refreshed) == before + 1


async def test_without_its_database_a_server_goes_on_from_what_it_knows(
    join: Join, lonely_cluster: Cluster, new_entry: Any, root: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    settings = parse_connection_string(lonely_cluster.connection_string(lonely_cluster.new_database()))
    caplog.set_level(logging.INFO)
    here = await join(settings, running=False)
    bundle = await here.store.bundles.append_x509(root)
    await here.entries.create([new_entry("a", id="a")])
    agent = Agent(SpiffeID.parse("spiffe://example.org/spire/agent/join_token/x"), "join_token", "1", 2**40)
    await here.store.agents.save_attested(agent)
    assert await here.follower.attempt()
    assert await here.served() == {"a"}
    assert await here.store.agents.get(agent.id) == agent
    assert await here.store.bundles.get(TD) == bundle
    await here.entries.create([new_entry("b", id="b")])  # whatever it read may be different by now; it is still known
    assert await here.follower.attempt()
    lonely_cluster.stop()

    for _ in range(3):
        assert not await here.follower.attempt()
        assert await here.served() == {"a", "b"}
        assert await here.store.agents.get(agent.id) == agent
        assert await here.store.bundles.get(TD) == bundle
    with pytest.raises(Unavailable, match=r"the database|cannot connect"):
        await here.entries.create([new_entry("never", id="never")])
    assert caplog.text.count("going on from what is known") == 1

    await asyncio.to_thread(lonely_cluster.start)
    assert await here.follower.attempt()
    assert "The database answers again" in caplog.text
    await here.entries.create([new_entry("c", id="c")])
    assert await here.served() == {"a", "b", "c"}


async def test_what_the_log_does_not_tell_the_comparison_finds(
    join: Join, new_postgres: Any, new_entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody deletes a row by hand: no log tells of it."""
    here = await join(new_postgres(), running=False)
    await here.entries.create([new_entry("a", id="a"), new_entry("b", id="b")])
    await here.follower.step()
    assert await here.entries.reconcile() == 0

    async def by_hand(connection: AsyncConnection) -> None:
        await connection.execute(text("DELETE FROM entries WHERE entry_id = 'a'"))

    await here.store._scope.database.write(by_hand)
    await here.follower.step()
    assert await here.served() == {"a", "b"}
    assert await here.entries.reconcile() == 1
    assert await here.served() == {"b"}
    assert "The index of entries was not what the database has" in caplog.text


async def test_a_restored_database_is_read_anew(
    join: Join, new_postgres: Any, new_entry: Any, cluster: Cluster
) -> None:
    """Same position, other content: only the epoch tells."""
    settings = new_postgres()
    here = await join(settings, running=False)
    await here.entries.create([new_entry("a", id="a")])
    await here.follower.step()
    assert await here.served() == {"a"}
    cluster.sql("UPDATE trust_domains SET epoch = 'restored'; DELETE FROM entries", settings.database)
    await here.follower.step()
    assert await here.served() == set()
