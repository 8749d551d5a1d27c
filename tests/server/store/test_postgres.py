"""What only PostgreSQL has: connections of several servers, migrations at once, roles, lost connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import TrustDomain
from icp_server.config.connection_string import parse_connection_string
from icp_server.domain.errors import (
    Internal,
    InvalidArgument,
    SchemaTooNewError,
    SchemaTooOldError,
    StoreError,
    Unavailable,
)
from icp_server.domain.filters import EntryFilter
from icp_server.domain.postgres_settings import PostgresPool, PostgresSettings, PostgresTLS, TLSMode
from icp_server.domain.results import PageRequest
from icp_server.store import schema
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.store.scope import bind
from icp_server.store.tables import metadata
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")
New = Callable[..., PostgresSettings]
PATIENCE = 60.0


@pytest.fixture
def backend() -> str:
    return "postgres"


async def test_migrations_make_exactly_the_tables(database: Database) -> None:
    def compare(connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == schema.REVISIONS[-1]

    async with database.read() as connection:
        await connection.run_sync(compare)


async def test_servers_that_start_at_once_migrate_once(new_postgres: New, clock: Any) -> None:
    settings = new_postgres(migrated=False)
    databases = await asyncio.gather(*(Database.connect(settings) for _ in range(4)))
    stores = await asyncio.gather(*(SQLStore.bind(each, TD, clock) for each in databases))
    async with databases[0].read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM trust_domains"))).scalar_one() == 1
        assert (await connection.execute(text("SELECT count(*) FROM alembic_version"))).scalar_one() == 1
    assert len(stores) == 4
    for each in databases:
        await each.close()


async def test_a_schema_of_another_release_is_refused(new_postgres: New, cluster: Cluster) -> None:
    empty = replace(new_postgres(migrated=False), migrate=False)
    with pytest.raises(SchemaTooOldError, match="icp-server db migrate"):
        await Database.connect(empty)
    newer = new_postgres()
    cluster.sql("UPDATE alembic_version SET version_num = '9999'", newer.database)
    with pytest.raises(SchemaTooNewError, match="9999"):
        await Database.connect(newer)
    with pytest.raises(SchemaTooNewError, match="9999"):
        await Database.connect(replace(newer, migrate=False))
    async with await Database.connect(replace(new_postgres(), migrate=False)):
        pass


async def test_a_database_that_others_may_enter_is_told_of(
    new_postgres: New, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    settings = new_postgres()
    caplog.set_level(logging.WARNING)
    async with await Database.connect(settings):
        pass
    assert "open to others" not in caplog.text
    cluster.sql(f"GRANT CONNECT ON DATABASE {settings.database} TO PUBLIC")
    cluster.sql("GRANT CREATE ON SCHEMA public TO PUBLIC", settings.database)
    async with await Database.connect(settings):
        pass
    assert f'REVOKE CONNECT, TEMPORARY ON DATABASE "{settings.database}" FROM PUBLIC' in caplog.text
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in caplog.text
    caplog.clear()
    cluster.sql(f"REVOKE CONNECT ON DATABASE {settings.database} FROM PUBLIC")
    async with await Database.connect(replace(settings, user="admin")):
        pass
    assert "superuser" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"database": "absent"}, "absent"),
        ({"user": "nobody-of-this-name"}, "nobody-of-this-name"),
        ({"hosts": (("127.0.0.1", 1),)}, "cannot connect"),
        ({"tls": PostgresTLS(TLSMode.REQUIRE)}, "SSL"),
        ({"tls": PostgresTLS(TLSMode.VERIFY_FULL, Path("/absent/root.pem"))}, "No such file"),
    ],
)
async def test_a_database_that_cannot_be_had_is_named(new_postgres: New, change: dict[str, Any], words: str) -> None:
    with pytest.raises(StoreError) as caught:
        await Database.connect(replace(new_postgres(), password="s3cret", **change))
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_password_is_in_no_text(new_postgres: New) -> None:
    settings = replace(new_postgres(), password="s3cret")
    assert "s3cret" not in f"{settings!r} {settings}"


async def test_the_second_host_is_asked_when_the_first_is_away(new_postgres: New) -> None:
    settings = new_postgres()
    async with await Database.connect(replace(settings, hosts=(("127.0.0.1", 1), *settings.hosts))) as database:
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_a_zero_byte_is_the_callers_error(store: SQLStore, new_entry: Any) -> None:
    """SQLite keeps such a text, PostgreSQL cannot: it is nobody's internal error."""
    with pytest.raises(InvalidArgument):
        await store.entries.create([new_entry(id="a", hint="x\0y")])
    with pytest.raises(InvalidArgument):
        await store.entries.list(EntryFilter(hint="x\0"), PageRequest())


async def test_reads_write_nothing(database: Database) -> None:
    with pytest.raises((Internal, Unavailable), match="read-only"):
        async with database.read() as connection:
            await connection.execute(text("DELETE FROM trust_domains"))


async def test_two_servers_never_both_create_similar_entries(new_postgres: New, clock: Any, new_entry: Any) -> None:
    """What a write read is still so when it commits, whoever else writes."""
    settings = new_postgres()
    async with await Database.connect(settings) as one, await Database.connect(settings) as two:
        stores = [await SQLStore.bind(each, TD, clock) for each in (one, two)]
        results = await asyncio.gather(
            *(stores[number % 2].entries.create([new_entry(id=f"e{number}")]) for number in range(20))
        )
        assert [result[0].ok for result in results].count(True) == 1
        assert await stores[0].entries.count(EntryFilter()) == 1


async def test_a_lost_database_says_so_and_comes_back_by_itself(
    tmp_path: Path, clock: Any, new_entry: Any, lonely_cluster: Cluster
) -> None:
    settings = parse_connection_string(lonely_cluster.connection_string(lonely_cluster.new_database()))
    async with await Database.connect(settings) as database:
        store = await SQLStore.bind(database, TD, clock)
        await store.entries.create([new_entry("a", id="a")])
        lonely_cluster.stop()
        with pytest.raises(Unavailable, match="datastore"):
            await store.entries.get("a")
        with pytest.raises(Unavailable, match="datastore"):
            await store.entries.create([new_entry("b", id="b")])
        await asyncio.to_thread(lonely_cluster.start)
        assert (await store.entries.get("a")) is not None
        assert (await store.entries.create([new_entry("b", id="b")]))[0].ok


async def test_an_ended_connection_is_replaced(database: Database, store: SQLStore, cluster: Cluster) -> None:
    assert database.postgres is not None
    kill = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{database.postgres.database}' AND pid <> pg_backend_pid()"
    )
    assert cluster.sql(kill)
    assert await store.entries.count(EntryFilter()) == 0


async def test_a_transaction_whose_connection_ends_is_not_there(
    database: Database, store: SQLStore, cluster: Cluster
) -> None:
    assert database.postgres is not None
    name = database.postgres.database

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("INSERT INTO trust_domains (name, position) VALUES ('half', 0)"))
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await asyncio.to_thread(cluster.sql, f"SELECT pg_terminate_backend({pid}, 5000)")
        await connection.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        await database.write(work)
    assert cluster.sql("SELECT count(*) FROM trust_domains WHERE name = 'half'", name) == [(0,)]


async def test_one_that_is_paused_in_a_transaction_loses_it(new_postgres: New, clock: Any, new_entry: Any) -> None:
    """A stopped process keeps its locks only as long as the database waits for it."""
    settings = new_postgres()
    async with await Database.connect(settings) as paused, await Database.connect(settings) as alive:
        paused_scope, other = await bind(paused, TD, clock), await SQLStore.bind(alive, TD, clock)
        holding, go_on = asyncio.Event(), asyncio.Event()

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 300"))
            holding.set()
            await go_on.wait()
            await connection.execute(text("SELECT 1"))

        task = asyncio.ensure_future(paused_scope.write(work))
        await holding.wait()
        with anyio.fail_after(PATIENCE):
            assert (await other.entries.create([new_entry(id="a")]))[0].ok
        go_on.set()
        with pytest.raises(Unavailable):
            await task


async def test_no_more_connections_than_allowed(new_postgres: New, cluster: Cluster, clock: Any) -> None:
    settings = replace(new_postgres(), pool=PostgresPool(max_open=5, max_idle=1))
    async with await Database.connect(settings) as database:
        store = await SQLStore.bind(database, TD, clock)
        most = 0

        async def watch() -> None:
            nonlocal most
            query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{settings.database}'"
            [(now,)] = await asyncio.to_thread(cluster.sql, query)
            most = max(most, now)

        await asyncio.gather(*(store.entries.count(EntryFilter()) for _ in range(40)), *(watch() for _ in range(3)))
        assert 0 < most <= 5
