"""The database: migrated, and never half-written; a SQLite file also private, and opened by one process alone."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.errors import DatabaseInUseError, Internal, SchemaTooNewError, StoreError
from icp_server.domain.filters import AgentFilter, EntryFilter
from icp_server.domain.results import PageRequest
from icp_server.store import schema
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.store.tables import metadata

pytestmark = pytest.mark.anyio


async def pragma(database: Database, name: str) -> Any:
    async with database.read() as connection:
        return (await connection.execute(text(f"PRAGMA {name}"))).scalar()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_settings_of_every_connection(database: Database) -> None:
    assert await pragma(database, "journal_mode") == "wal"
    assert await pragma(database, "synchronous") == 2  # FULL
    assert await pragma(database, "foreign_keys") == 1
    assert await pragma(database, "busy_timeout") == 10_000


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_files_are_private(database: Database, tmp_path: Path) -> None:
    modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes


async def test_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "a.sqlite3"):
        pass
    engine = create_engine(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == schema.REVISIONS[-1]
        made = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = 'entries'")).scalar_one()
        assert "AUTOINCREMENT" in made
    engine.dispose()


async def test_there_is_a_migration_for_every_revision() -> None:
    folder = Path(schema.__file__).with_name("migrations") / "versions"
    assert sorted(item.name[:4] for item in folder.glob("*.py")) == sorted(schema.REVISIONS)


async def test_opening_again_keeps_what_is_there(tmp_path: Path, clock: Any, new_entry: Any) -> None:
    for expected in (0, 1):
        async with await Database.open(tmp_path / "a.sqlite3") as database:
            store = await SQLStore.bind(database, TrustDomain("example.org"), clock)
            assert store.entries.revision().position == expected
            await store.entries.create([new_entry(id="e")])
            assert (await store.entries.get("e")) is not None


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    async with await Database.open(path):
        pass
    raw = sqlite3.connect(path)
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNewError, match="9999"):
        await Database.open(path)
    assert path.read_bytes() == before
    with pytest.raises(SchemaTooNewError):  # and the lock is free again
        await Database.open(path)


async def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    path.write_bytes(b"this is not a database, it is a long enough text " * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="cannot use the database"):
        await Database.open(path)
    assert path.read_bytes() == before


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        await Database.open(tmp_path / "nowhere" / "a.sqlite3")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_second_process_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseInUseError):
        await Database.open(tmp_path / "server.sqlite3")
    program = (
        "import asyncio, pathlib, sys\n"
        "from icp_server.store.database import Database\n"
        "from icp_server.domain.errors import DatabaseInUseError\n"
        "try:\n asyncio.run(Database.open(pathlib.Path(sys.argv[1])))\n"
        "except DatabaseInUseError:\n sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "server.sqlite3")]
    done = await asyncio.to_thread(subprocess.run, command, cwd=Path(__file__).parents[3], timeout=60)
    assert done.returncode == 7


async def test_a_failed_write_leaves_nothing(database: Database, store: SQLStore) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("DELETE FROM trust_domains"))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.write(work)
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM trust_domains"))).scalar() == 1


async def test_a_cancelled_write_ends_before_its_caller_goes(database: Database) -> None:
    """Whoever is cancelled may not leave a write behind that nobody knows about."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("INSERT INTO trust_domains (name, position) VALUES ('late', 0)"))
        began.set()
        await go_on.wait()

    committed: list[None] = []
    task = asyncio.create_task(database.write(work, committed.append))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert committed == [None]
    async with database.read() as connection:
        found = await connection.execute(text("SELECT count(*) FROM trust_domains WHERE name = 'late'"))
        assert found.scalar() == 1


async def test_a_cancelled_write_that_fails_is_told_to_the_log(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        began.set()
        await go_on.wait()
        await connection.execute(text("nonsense"))

    task = asyncio.create_task(database.write(work))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "A write whose caller had gone failed" in caplog.text


async def test_writes_wait_for_each_other_and_reads_do_not(database: Database) -> None:
    inside = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        name = (await connection.execute(text("SELECT count(*) FROM trust_domains"))).scalar_one()
        async with database.read() as reading:  # sees the state before, at once
            assert (await reading.execute(text("SELECT count(*) FROM trust_domains"))).scalar_one() == name
        await connection.execute(text(f"INSERT INTO trust_domains (name, position) VALUES ('{name}', 0)"))
        inside -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(database.write(work))
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM trust_domains"))).scalar() == 20


async def test_errors_of_the_database_are_ours_and_show_no_parameters(database: Database) -> None:
    with pytest.raises(Internal) as caught:
        async with database.read() as connection:
            await connection.execute(text("SELECT * FROM absent WHERE a = :secret"), {"secret": "s3cret"})
    assert "absent" in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("spoil", "read"),
    [
        ("entries SET spiffe_id = 'junk'", "entries"),
        ("entries SET parent_id = 'spiffe://Example.org/a'", "entries"),
        ("entries SET dns_names = '{'", "entries"),
        ("entry_selectors SET selector = ':'", "entries"),
        ("agents SET spiffe_id = '' || spiffe_id || '/'", "agents"),
        ("agent_selectors SET selector = 'x'", "agents"),
        ("bundle_authorities SET data = x'30'", "bundles"),
    ],
)
async def test_a_row_somebody_spoilt_is_an_error_without_its_content(
    server: Any, tmp_path: Path, new_entry: Any, spoil: str, read: str
) -> None:
    store: SQLStore = server.store
    await store.entries.create([new_entry(id="e", dns_names=("a.test",))])
    agent = Agent(SpiffeID.parse("spiffe://example.org/spire/agent/x/1"), "x", "1", 1, selectors=(Selector("a", "b"),))
    await store.agents.save_attested(agent)
    raw = sqlite3.connect(tmp_path / "server.sqlite3")
    raw.execute(f"UPDATE {spoil}")
    raw.commit()
    raw.close()
    readers = {
        "entries": lambda: server.entries.authorized(agent),
        "agents": lambda: server.agents.list(AgentFilter(), PageRequest()),
        "bundles": server.bundles.get,
    }
    with pytest.raises(Internal) as caught:
        await readers[read]()
    assert caught.value.message.endswith("datastore: a row is malformed")
    await store.entries.create([new_entry("good", id="good")])  # and it goes on
    assert await store.entries.count(EntryFilter()) == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_file_that_vanished_is_an_error_and_not_an_empty_database(database: Database, tmp_path: Path) -> None:
    await database.close()
    (tmp_path / "server.sqlite3").unlink()
    with pytest.raises(Internal, match="unable to open database file"):
        async with database.read():
            pass
    assert not (tmp_path / "server.sqlite3").exists()


@pytest.mark.parametrize("name", ["a b.sqlite3", "a?mode=memory", "a#b", "ä%20.db", "a;b&c=d"])
async def test_any_file_name(tmp_path: Path, name: str, clock: Any) -> None:
    async with await Database.open(tmp_path / name) as database:
        await SQLStore.bind(database, TrustDomain("example.org"), clock)
    raw = sqlite3.connect(tmp_path / name)
    assert raw.execute("SELECT name FROM trust_domains").fetchall() == [("example.org",)]
    raw.close()


async def test_closing_twice_is_once(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "a.sqlite3")
    await database.close()
    await database.close()
    async with await Database.open(tmp_path / "a.sqlite3"):
        pass
