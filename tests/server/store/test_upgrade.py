"""From the schema of every release to this one's: nothing that was there is lost, on either database."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.errors import StoreError
from icp_server.domain.filters import AgentFilter, EntryFilter
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.domain.results import PageRequest
from icp_server.store import schema
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.store.postgres import migrating_engine
from icp_server.store.sqlite import sqlite_engine
from icp_server.store.tables import metadata

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")
ALL = PageRequest()

# What a server of that release wrote, as statements both databases take; by the migration of the same number.
CONTENT = {
    "0001": """
        INSERT INTO trust_domains (id, name, entry_position) VALUES (1, 'example.org', 7), (2, 'other.org', 3);
        INSERT INTO bundles (id, trust_domain_id, name, sequence_number, refresh_hint, created_at, updated_at)
            VALUES (1, 1, 'example.org', 4, 0, 1, 1), (2, 1, 'federated.org', 1, 300, 1, 1);
        INSERT INTO entries (id, trust_domain_id, entry_id, spiffe_id, parent_id, selector_digest, x509_svid_ttl,
                jwt_svid_ttl, admin, downstream, expires_at, dns_names, store_svid, hint, disable_x509_svid_prefetch,
                jwt_svid_include_jti, revision_number, created_at)
            VALUES (1, 1, 'e1', 'spiffe://example.org/w', 'spiffe://example.org/node', 'digest', 60, 30, true, false, 0,
                '["a.test"]', false, 'hint', false, true, 5, 12345);
        INSERT INTO entry_selectors (id, trust_domain_id, entry_row_id, selector)
            VALUES (1, 1, 1, 'unix:uid:1'), (2, 1, 1, 'unix:gid:2');
        INSERT INTO entry_federates_with (id, trust_domain_id, entry_row_id, bundle_id) VALUES (1, 1, 1, 2);
        INSERT INTO entry_changes (id, trust_domain_id, position, entry_id) VALUES (1, 1, 7, 'e1');
        INSERT INTO agents (id, trust_domain_id, spiffe_id, attestation_type, serial_number, expires_at,
                new_serial_number, new_expires_at, can_reattest, agent_version, created_at)
            VALUES (1, 1, 'spiffe://example.org/spire/agent/x/1', 'x', '99', 2000000000, '', 0, false, '1.0', 5),
                   (2, 1, 'spiffe://example.org/spire/agent/x/2', 'x', '', 2000000000, '', 0, false, '1.0', 5);
        INSERT INTO agent_selectors (id, trust_domain_id, agent_row_id, selector) VALUES (1, 1, 1, 'a:b');
        INSERT INTO join_tokens (id, trust_domain_id, digest, expires_at) VALUES (1, 1, 'waiting', 2000000000);
        INSERT INTO spent_join_tokens (id, trust_domain_id, digest, key_digest, expires_at)
            VALUES (1, 1, 'spent', NULL, 5);
        INSERT INTO ca_journals (id, trust_domain_id, revision, data) VALUES (1, 1, 9, 'journal');
        INSERT INTO privileged_svids (id, trust_domain_id, spiffe_id, serial_number, expires_at)
            VALUES (1, 1, 'spiffe://example.org/w', '77', 2000000000);
    """,
    "0002": """
        INSERT INTO trust_domains (id, name, position, epoch) VALUES (1, 'example.org', 7, 'e');
        INSERT INTO changes (id, trust_domain_id, position, kind, name) VALUES (1, 1, 7, 'entry', 'e1');
    """,
    "0003": """
        INSERT INTO trust_domains (id, name, position, epoch) VALUES (1, 'example.org', 7, 'e');
    """,
    "0004": """
        INSERT INTO trust_domains (id, name, position, epoch) VALUES (1, 'example.org', 7, 'e');
        INSERT INTO privileged_svids (id, trust_domain_id, spiffe_id, fingerprint, expires_at)
            VALUES (1, 1, 'spiffe://example.org/w', 'abc', 2000000000);
    """,
}
BYTES = re.compile("'(digest|waiting|spent|journal)'")
"""What goes into columns of bytes; PostgreSQL takes a text for them, SQLite would keep it as one."""


def engine_of(place: Path | PostgresSettings) -> AsyncEngine:
    return sqlite_engine(place) if isinstance(place, Path) else migrating_engine(place)


@pytest.fixture
def empty(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Path | PostgresSettings:
    """A database without a schema."""
    if backend == "postgres":
        settings: PostgresSettings = request.getfixturevalue("new_postgres")(migrated=False)
        return settings
    (tmp_path / "old.sqlite3").touch(mode=0o600)
    return tmp_path / "old.sqlite3"


@pytest.fixture(params=schema.REVISIONS)
async def old(request: pytest.FixtureRequest, empty: Any) -> tuple[str, Any]:
    """A database as a release of this schema left it."""
    revision = str(request.param)
    engine = engine_of(empty)

    def make(connection: Connection) -> None:
        schema.upgrade_to(connection, revision)
        content = CONTENT[revision]
        if connection.dialect.name == "sqlite":
            content = BYTES.sub(lambda found: f"x'{found[1].encode().hex()}'", content)
        for statement in content.split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        if connection.dialect.name == "postgresql":
            for table in inspect(connection).get_table_names():
                if table != "alembic_version":
                    connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 100)"))

    async with engine.connect() as connection, connection.begin():
        await connection.run_sync(make)
    await engine.dispose()
    return revision, empty


async def opened(place: Any) -> Database:
    return await (Database.open(place) if isinstance(place, Path) else Database.connect(place))


async def test_every_schema_has_content_to_upgrade() -> None:
    assert set(CONTENT) == set(schema.REVISIONS)


async def test_each_comes_to_this_schema_and_no_other(old: tuple[str, Any]) -> None:
    def compare(connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == schema.REVISIONS[-1]

    async with await opened(old[1]) as database, database.read() as connection:
        await connection.run_sync(compare)


async def test_the_first_releases_rows_are_all_there(empty: Any, old: tuple[str, Any], clock: Any) -> None:
    if old[0] != "0001":
        return
    async with await opened(old[1]) as database:
        store = await SQLStore.bind(database, TD, clock)
        assert store.entries.revision().position == 7
        assert len(store.entries.revision().epoch) == 32
        [entry] = (await store.entries.list(EntryFilter(), ALL)).items
        assert (entry.id, entry.revision_number, entry.hint, entry.admin) == ("e1", 5, "hint", True)
        assert entry.selectors == (Selector("unix", "uid:1"), Selector("unix", "gid:2"))
        assert entry.federates_with == (TrustDomain("federated.org"),)
        first, second = (await store.agents.list(AgentFilter(), ALL)).items
        assert first.selectors == (Selector("a", "b"),)
        assert second.banned
        [journal] = await store.journals.all()
        assert (journal.revision, journal.data) == (9, b"journal")
        assert not await store.issuance.known(SpiffeID.parse("spiffe://example.org/w"), "77")
        other = await SQLStore.bind(database, TrustDomain("other.org"), clock)
        assert other.entries.revision().position == 3
        assert other.entries.revision().epoch != store.entries.revision().epoch
        # And it goes on from there.
        assert all(result.ok for result in await store.entries.delete(["e1"]))
        assert store.entries.revision().position == 8
        assert set((await store.changes_since(None)).bundles) == {"example.org", "federated.org"}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_one_that_is_interrupted_leaves_the_old_schema(old: tuple[str, Any]) -> None:
    """The whole migration is one transaction, on SQLite too."""
    revision, path = old
    if revision != "0001":
        return
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE changes (in_the_way INTEGER)")
    raw.commit()
    before = raw.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    with pytest.raises(StoreError, match="already exists"):
        await Database.open(path)
    assert raw.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
    assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
    raw.execute("DROP TABLE changes")
    raw.commit()
    raw.close()
    async with await Database.open(path):
        pass
