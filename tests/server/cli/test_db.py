"""`icp-server db`: what it prints, its exit codes, and that a server may work meanwhile where it says so."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.spiffe import TrustDomain
from icp_server.cli import main
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.store.schema import REVISIONS
from tests.postgres_cluster import Cluster

CONFIG = """
server {{
  trust_domain = "{trust_domain}"
  data_dir = "{folder}"
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "{kind}" connection_string = "{place}" {more} }} }}
  KeyManager "memory" {{}}
}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | PostgresSettings:
    """A database without a schema."""
    if request.param == "sqlite":
        return tmp_path / "db.sqlite3"
    settings: PostgresSettings = request.getfixturevalue("new_postgres")(migrated=False)
    return settings


@pytest.fixture
def run(place: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Run:
    """Run a command on the database."""
    if isinstance(place, Path):
        kind, string = "sqlite3", str(place)
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        kind, string = "postgres", cluster.connection_string(place.database)

    def run(*words: str, trust_domain: str = "example.org", more: str = "") -> tuple[int, str, str]:
        config = tmp_path / "server.conf"
        config.write_text(CONFIG.format(trust_domain=trust_domain, folder=tmp_path, kind=kind, place=string, more=more))
        code = main(["db", *words, "-config", str(config)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def on(place: Any, clock: Any, act: Callable[[SQLStore], Awaitable[object]]) -> None:
    """Do something with the store, as a server does."""

    async def work() -> None:
        async with await (Database.open(place) if isinstance(place, Path) else Database.connect(place)) as database:
            await act(await SQLStore.bind(database, TrustDomain("example.org"), clock))

    asyncio.run(work())


def test_from_nothing_to_a_backup_and_back(run: Run, place: Any, clock: Any, new_entry: Any, tmp_path: Path) -> None:
    assert run("migrate") == (0, f"The database has schema {REVISIONS[-1]}.\n", "")
    code, _, err = run("check")
    assert code == 1
    assert "nothing of trust domain example.org" in err
    on(place, clock, lambda store: store.entries.create([new_entry("a", id="a")]))
    assert run("check") == (0, "The database is whole.\n", "")
    file = str(tmp_path / "backup")
    assert run("backup", "-file", file) == (0, f"Wrote 2 rows to {file}.\n", "")
    code, _, err = run("backup", "-file", file)
    assert code == 1
    assert "File exists" in err
    code, _, err = run("restore", "-file", file)
    assert code == 1
    assert "-replace" in err
    on(place, clock, lambda store: store.entries.delete(["a"]))
    code, out, _ = run("restore", "-file", file)
    assert code == 0
    assert "Restored 2 rows" in out
    assert "must be banned again" in out
    code, _, err = run("restore", "-file", file, "-replace", trust_domain="other.org")
    assert code == 1
    assert "of trust domain example.org" in err

    async def there(store: SQLStore) -> None:
        assert await store.entries.get("a") is not None

    on(place, clock, there)


def test_a_server_without_migration_says_which_command_does_it(run: Run) -> None:
    code, _, err = run("backup", "-file", "/tmp/absent/x", more="disable_migration = true")
    assert code == 1
    assert "there is none" in err or "run `icp-server db migrate`" in err


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_file_is_required(run: Run, command: str) -> None:
    run("migrate")
    code, _, err = run(command)
    assert code == 1
    assert "-file is required" in err


def test_what_is_no_backup_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("nothing")
    code, _, err = run("restore", "-file", str(tmp_path / "none"))
    assert code == 1
    assert "is no backup" in err


def test_what_is_wrong_is_told(
    run: Run, place: Any, clock: Any, new_entry: Any, request: pytest.FixtureRequest
) -> None:
    on(place, clock, lambda store: store.entries.create([new_entry("a", id="a")]))
    spoil = "DELETE FROM entry_selectors"
    if isinstance(place, Path):
        raw = sqlite3.connect(place)
        raw.execute(spoil)
        raw.commit()
        raw.close()
    else:
        request.getfixturevalue("cluster").sql(spoil, place.database)
    code, out, _ = run("check")
    assert code == 1
    assert out == "entry a has no selectors: it is nobody's\n1 problems found.\n"


def test_a_server_works_meanwhile(run: Run, place: Any, clock: Any, new_entry: Any, tmp_path: Path) -> None:
    """Backup and check read beside it; a restore of its SQLite file waits until it is stopped."""

    async def act(store: SQLStore) -> None:
        await store.entries.create([new_entry("a", id="a")])
        assert (await asyncio.to_thread(run, "check"))[0] == 0
        assert (await asyncio.to_thread(run, "backup", "-file", str(tmp_path / "b")))[0] == 0
        code, _, err = await asyncio.to_thread(run, "restore", "-file", str(tmp_path / "b"), "-replace")
        if isinstance(place, Path):
            assert code == 1
            assert "stop it first" in err
        else:
            assert code == 0
            assert (await store.changes_since(store.entries.revision())).complete

    on(place, clock, act)
