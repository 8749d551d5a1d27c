"""Backups: whole or refused, between both databases, and never a way back for what was taken away."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.agents import JoinToken
from authsec_sdk.spire.selectors import Selector
from icp_server.ca.authority import self_signed
from icp_server.ca.keys import generate_private_key
from icp_server.domain.agent import Agent
from icp_server.domain.errors import AlreadyExists, InvalidArgument
from icp_server.domain.filters import AgentFilter, EntryFilter
from icp_server.domain.issued import IssuedSVID, fingerprint
from icp_server.domain.key_type import KeyType
from icp_server.domain.results import PageRequest
from icp_server.domain.svid_template import CASubject, ca_template, new_serial_number
from icp_server.store.backup import TABLES, BackupError, read_header, write_backup
from icp_server.store.check import problems
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from icp_server.store.restore import restore
from icp_server.store.scope import Scope, bind
from icp_server.store.tables import metadata

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")
ALL = PageRequest()
KEY = b"k" * 32


def agent(name: str, serial: str = "1") -> Agent:
    agent_id = SpiffeID.from_path(TD, f"/spire/agent/x509pop/{name}")
    return Agent(agent_id, "x509pop", serial, 2**40, selectors=(Selector("a", name),))


def silent(_: int) -> None:
    pass


@pytest.fixture
def spare(backend: str, request: pytest.FixtureRequest) -> Any:
    """One more database of PostgreSQL, where the test is about that."""
    return request.getfixturevalue("new_postgres")() if backend == "postgres" else None


@pytest.fixture
def new_root(clock: Any) -> Callable[[], bytes]:
    """Make certificates of authorities, as the bundle holds them."""

    def make() -> bytes:
        template = ca_template(TD, clock(), timedelta(hours=24), CASubject(), new_serial_number())
        return self_signed(template, generate_private_key(KeyType.EC_P256))[0]

    return make


@pytest.fixture
async def fresh(backend: str, tmp_path: Path, migrated: Path, spare: Any, clock: Any) -> AsyncIterator[Any]:
    """Make empty databases."""
    async with AsyncExitStack() as parts:

        async def fresh(kind: str = backend) -> Scope:
            if kind == "postgres":
                database = await Database.connect(spare)
            else:
                place = tmp_path / f"fresh{len(list(tmp_path.iterdir()))}.sqlite3"
                shutil.copy(migrated, place)
                database = await Database.open(place)
            return await bind(await parts.enter_async_context(database), TD, clock)

        yield fresh


@pytest.fixture
async def filled(database: Database, clock: Any, new_entry: Any, new_root: Any) -> Scope:
    """A trust domain with something of everything."""
    scope = await bind(database, TD, clock)
    store = SQLStore(scope)
    await store.bundles.append_x509(new_root())
    await store.entries.create(
        [new_entry(f"w{n}", id=f"e{n:04}", selectors=f"unix:uid:{n} unix:gid:1") for n in range(600)]
        + [new_entry("f", id="federating", federates_with=(TD,), dns_names=("a.test",), hint="h")]
    )
    await store.agents.save_attested(agent("active"))
    await store.agents.save_attested(agent("banned"))
    await store.agents.ban(agent("banned").id)
    await store.join_tokens.create(JoinToken("waiting", 2**40), None)
    await store.join_tokens.create(JoinToken("spent", 2**40), None)
    await store.join_tokens.consume("spent", KEY, clock())
    await store.journals.create(b"journal")
    await store.issuance.record([IssuedSVID(agent("active").id, (b"77",), 2**40, "77")])
    return scope


async def everything(scope: Scope) -> Any:
    store = SQLStore(scope)
    return (
        [replace(entry) for entry in (await store.entries.list(EntryFilter(), ALL)).items],
        list((await store.agents.list(AgentFilter(), ALL)).items),
        await store.bundles.published(TD),
        [journal.data for journal in await store.journals.all()],
        await store.issuance.known(agent("active").id, fingerprint(b"77")),
    )


async def test_everything_comes_back(filled: Scope, fresh: Any, tmp_path: Path, clock: Any) -> None:
    told: list[int] = []
    rows = await write_backup(filled, tmp_path / "b", clock(), told.append)
    assert told
    assert told == sorted(told)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    there = await fresh()
    told.clear()
    done = await restore(there, tmp_path / "b", told.append)
    assert (done.rows, done.everything, done.made_at) == (rows, True, clock())
    assert told[-1] == rows
    assert await everything(there) == await everything(filled)
    assert await problems(there, silent) == []


async def test_tokens_do_not(filled: Scope, fresh: Any, tmp_path: Path, clock: Any) -> None:
    """The attack: a token that was waiting, or spent, when the backup was made is shown again after the restore."""
    await write_backup(filled, tmp_path / "b", clock(), silent)
    there = await fresh()
    await restore(there, tmp_path / "b", silent)
    tokens = SQLStore(there).join_tokens
    for text_ in ("waiting", "spent"):
        for key in (KEY, b"x" * 32):
            with pytest.raises(InvalidArgument):
                await tokens.consume(text_, key, clock())
        with pytest.raises(AlreadyExists):
            await tokens.create(JoinToken(text_, 2**40), None)
    assert b"waiting" not in (tmp_path / "b").read_bytes()


async def test_bans_that_came_later_stay(filled: Scope, tmp_path: Path, clock: Any) -> None:
    """The attack: a banned agent comes back with the backup from before its ban; an evicted one, with its record."""
    store = SQLStore(filled)
    await store.agents.save_attested(agent("evicted"))
    await write_backup(filled, tmp_path / "b", clock(), silent)
    await store.agents.ban(agent("active").id)
    await store.agents.delete(agent("evicted").id, None)
    await store.agents.delete(agent("banned").id, None)  # its ban was lifted
    await store.agents.save_attested(agent("banned", "2"))
    done = await restore(filled, tmp_path / "b", silent, replace=True)
    assert not done.everything
    again = SQLStore(filled)
    states = {each.id.segments[-1]: each.banned for each in (await again.agents.list(AgentFilter(), ALL)).items}
    assert states == {"active": True, "banned": False}


async def test_entries_alone_are_replaced_where_there_is_something_newer(
    filled: Scope, tmp_path: Path, clock: Any, new_entry: Any, new_root: Any
) -> None:
    before = await everything(filled)
    await write_backup(filled, tmp_path / "b", clock(), silent)
    store = SQLStore(filled)
    await store.bundles.append_x509(new_root())
    await store.entries.delete(["e0001"])
    await store.entries.create([new_entry("later", id="later")])
    bundle = await store.bundles.published(TD)
    with pytest.raises(BackupError, match="-replace"):
        await restore(filled, tmp_path / "b", silent)
    assert await store.entries.get("later") is not None
    await restore(filled, tmp_path / "b", silent, replace=True)
    after = await everything(filled)
    assert after[0] == before[0]
    assert after[2] == bundle  # the newer authority stays: its SVIDs are out there
    assert await problems(filled, silent) == []


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_a_trust_domain_moves_from_one_database_to_the_other(
    filled: Scope, fresh: Any, tmp_path: Path, clock: Any
) -> None:
    await write_backup(filled, tmp_path / "b", clock(), silent)
    file = await fresh("sqlite")
    await restore(file, tmp_path / "b", silent)
    assert await everything(file) == await everything(filled)
    await write_backup(file, tmp_path / "c", clock(), silent)
    back = await fresh("postgres")
    await restore(back, tmp_path / "c", silent)
    assert await everything(back) == await everything(filled)


async def test_a_new_epoch_begins(filled: Scope, tmp_path: Path, clock: Any) -> None:
    await write_backup(filled, tmp_path / "b", clock(), silent)
    store = SQLStore(filled)
    before = (await store.changes_since(None)).revision
    await restore(filled, tmp_path / "b", silent, replace=True)
    after = await store.changes_since(before)
    assert after.complete
    assert after.revision.epoch != before.epoch
    delta = await store.entries.changes_since(before)
    assert delta.complete


async def test_another_trust_domain_is_not_touched(
    filled: Scope, database: Database, tmp_path: Path, clock: Any, new_entry: Any
) -> None:
    other = await SQLStore.bind(database, TrustDomain("other.org"), clock)
    entry = replace(
        new_entry(id="theirs"),
        spiffe_id=SpiffeID.parse("spiffe://other.org/w"),
        parent_id=SpiffeID.parse("spiffe://other.org/a"),
    )
    await other.entries.create([entry])
    await write_backup(filled, tmp_path / "b", clock(), silent)
    assert b"theirs" not in (tmp_path / "b").read_bytes()
    await restore(filled, tmp_path / "b", silent, replace=True)
    assert await other.entries.get("theirs") is not None
    theirs = await bind(database, TrustDomain("other.org"), clock)
    with pytest.raises(BackupError, match=r"of trust domain example\.org, not of other\.org"):
        await restore(theirs, tmp_path / "b", silent, replace=True)


async def test_no_backup_is_overwritten(filled: Scope, tmp_path: Path, clock: Any) -> None:
    (tmp_path / "b").write_text("precious")
    with pytest.raises(BackupError, match="File exists"):
        await write_backup(filled, tmp_path / "b", clock(), silent)
    assert (tmp_path / "b").read_text() == "precious"
    assert [each.name for each in tmp_path.glob(".b*")] == []
    with pytest.raises(BackupError, match="No such file"):
        await write_backup(filled, tmp_path / "absent" / "b", clock(), silent)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
class TestSpoiltFiles:
    @pytest.fixture
    async def made(self, filled: Scope, tmp_path: Path, clock: Any) -> Path:
        await write_backup(filled, tmp_path / "b", clock(), silent)
        return tmp_path / "b"

    @pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.999])
    async def test_a_part_is_refused(self, made: Path, keep: float, fresh: Any) -> None:
        content = made.read_bytes()
        made.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(BackupError):
            await restore(await fresh(), made, silent)

    async def test_a_changed_row_is_refused(self, made: Path, fresh: Any) -> None:
        made.write_bytes(made.read_bytes().replace(b"spiffe://example.org/w7", b"spiffe://example.org/w8", 1))
        with pytest.raises(BackupError, match="digest"):
            await restore(await fresh(), made, silent)

    async def test_a_missing_row_is_refused(self, made: Path, fresh: Any) -> None:
        lines = made.read_bytes().splitlines(keepends=True)
        made.write_bytes(b"".join(lines[:5] + lines[6:]))
        with pytest.raises(BackupError, match="digest"):
            await restore(await fresh(), made, silent)

    @pytest.mark.parametrize(
        "content", [b"", b"{}\n", b"[]\n[]\n", b"\xff\xfe\n\n", b'{"format": "x"}\n{}\n', b"[" * 9999]
    )
    async def test_what_is_none_is_refused(self, tmp_path: Path, content: bytes, fresh: Any) -> None:
        (tmp_path / "none").write_bytes(content)
        with pytest.raises(BackupError):
            await restore(await fresh(), tmp_path / "none", silent)

    async def test_one_of_another_release_is_refused(self, made: Path) -> None:
        lines = made.read_bytes().splitlines(keepends=True)
        header = {**json.loads(lines[0]), "format": "icp-server backup 2"}
        made.write_bytes(b"".join([json.dumps(header).encode() + b"\n", *lines[1:]]))
        with pytest.raises(BackupError, match="another format"):
            read_header(made)

    async def test_a_restore_that_fails_leaves_everything_as_it_was(self, made: Path, filled: Scope) -> None:
        """The digest is right, and a row in the middle is not: whoever made it wrote the digest too."""
        before = await everything(filled)
        lines = made.read_bytes().splitlines(keepends=True)[:-1]
        place = next(n for n, line in enumerate(lines) if b'"entry_selectors"' in line)
        lines[place] = lines[place].replace(b'"entry_row_id":', b'"entry_row_id":99999')
        digest = hashlib.sha256(b"".join(lines)).hexdigest()
        footer = json.dumps({"rows": len(lines) - 1, "sha256": digest}).encode() + b"\n"
        made.write_bytes(b"".join([*lines, footer]))
        with pytest.raises(BackupError, match="not in the backup"):
            await restore(filled, made, silent, replace=True)
        assert await everything(filled) == before


async def test_a_spoilt_database_is_told(filled: Scope, database: Database) -> None:
    assert await problems(filled, silent) == []

    async def spoil(connection: AsyncConnection) -> None:
        await connection.execute(text("DELETE FROM entry_selectors WHERE selector = 'unix:uid:5'"))
        await connection.execute(text("DELETE FROM entry_selectors WHERE entry_row_id = 6"))
        await connection.execute(text("UPDATE agents SET spiffe_id = 'junk' WHERE serial_number = ''"))
        await connection.execute(text("UPDATE trust_domains SET epoch = '', position = 0"))

    await database.write(spoil)
    found = "\n".join(await problems(filled, silent))
    for words in ("no epoch", "ahead of the position", "agents: ", "has no selectors"):
        assert words in found


def test_every_table_is_in_a_backup_or_left_out_knowingly() -> None:
    """A new table: add it to `TABLES`, where it can be put back, or here, with the reason."""
    left_out = {
        "trust_domains",  # its row is there before anything is put back
        "changes",  # belongs to an epoch that a restore ends
        "join_tokens",  # written down as spent
    }
    assert set(TABLES) | left_out == set(metadata.tables)
