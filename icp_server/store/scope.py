"""A database bound to one trust domain: what the aggregates of a store share, and the only way they make queries."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Insert,
    Select,
    Table,
    Update,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.domain.errors import StoreError
from icp_server.domain.revision import Revision
from icp_server.ports import Clock
from icp_server.store.database import Database
from icp_server.store.remembered import Remembered
from icp_server.store.tables import changes, trust_domains

T = TypeVar("T")

CHANGES_KEPT: Final = 10_000
"""Positions the log of changes reaches back at least; who is further behind reads everything."""
ENTRY: Final = "entry"
AGENT: Final = "agent"
_TRIM_EVERY: Final = 100


class Scope:
    """Transactions and statements that cannot leave the trust domain. Made by `bind`."""

    def __init__(
        self, database: Database, trust_domain: TrustDomain, row_id: int, revision: Revision, clock: Clock
    ) -> None:
        self.trust_domain = trust_domain
        self.row_id = row_id
        self.database = database
        self.read = database.read
        self.remembered = Remembered()
        self.entry_revision = revision
        """The newest change of entries this process knows of. Servers that share the database may be further."""
        self._id = row_id
        self._clock = clock

    async def write(
        self, work: Callable[[AsyncConnection], Awaitable[T]], committed: Callable[[T], None] | None = None
    ) -> T:
        """Run `work` in a write transaction, as `Database.write`: writes of one trust domain come one after the other.

        Where servers share the database, the trust domain's row is locked first, and until the end. So what is counted
        in it is counted in the order of commits, and what `work` read is still so when it commits. Unlike an advisory
        lock, a row's needs rights on the table.
        """
        if self.database.postgres is None:
            return await self.database.write(work, committed)

        async def locked(connection: AsyncConnection) -> T:
            await connection.execute(select(trust_domains.c.id).where(trust_domains.c.id == self._id).with_for_update())
            result = await work(connection)
            # Told when, and only if, this is committed.
            await connection.execute(select(func.pg_notify(channel_of(self._id), "")))
            return result

        def done(result: T) -> None:
            self.remembered.outdate()
            if committed is not None:
                committed(result)

        return await self.database.write(locked, done)

    def now(self) -> int:
        """The time in Unix seconds."""
        return int(self._clock().timestamp())

    def where(self, table: Table, *, by_row: bool = False) -> ColumnElement[bool]:
        """The clause that binds a table to the trust domain.

        ``by_row``: the statement names rows by their keys. The clause is then only a check: SQLite would otherwise take
        any index that begins with the trust domain, and read all of its rows for a few. (A plus sign keeps it from
        using the column for a search; it is no other change.)
        """
        if by_row:
            return literal_column(f"+{table.name}.trust_domain_id", BigInteger) == self._id
        return table.c.trust_domain_id == self._id

    def select(self, table: Table, *columns: ColumnElement[Any], by_row: bool = False) -> Select[Any]:
        """Select columns (or all) of the trust domain's rows."""
        return select(*(columns or (table,))).select_from(table).where(self.where(table, by_row=by_row))

    def update(self, table: Table) -> Update:
        """Update the trust domain's rows."""
        return update(table).where(self.where(table))

    def delete(self, table: Table, *, by_row: bool = False) -> Delete:
        """Delete the trust domain's rows."""
        return delete(table).where(self.where(table, by_row=by_row))

    def insert(self, table: Table, values: Mapping[str, object]) -> Insert:
        """Insert one of the trust domain's rows."""
        return insert(table).values(trust_domain_id=self._id, **values)

    async def insert_all(self, connection: AsyncConnection, table: Table, rows: list[dict[str, object]]) -> None:
        """Insert rows of the trust domain, if there are any."""
        if rows:
            await connection.execute(insert(table), [{"trust_domain_id": self._id, **row} for row in rows])

    async def note(
        self, connection: AsyncConnection, *, entries: Iterable[str] = (), agents: Iterable[SpiffeID] = ()
    ) -> Revision:
        """Log what a write changed under the next position."""
        counted = (
            update(trust_domains)
            .where(trust_domains.c.id == self._id)
            .values(position=trust_domains.c.position + 1)
            .returning(trust_domains.c.epoch, trust_domains.c.position)
        )
        row = (await connection.execute(counted)).one()
        named = [*((ENTRY, entry_id) for entry_id in entries), *((AGENT, str(agent_id)) for agent_id in agents)]
        rows: list[dict[str, object]] = [
            {"position": row.position, "kind": kind, "name": name} for kind, name in dict.fromkeys(named)
        ]
        await self.insert_all(connection, changes, rows)
        if row.position % _TRIM_EVERY == 0:
            oldest = changes.c.position <= row.position - CHANGES_KEPT
            await connection.execute(self.delete(changes).where(oldest))
        return Revision(row.epoch, row.position)

    def entries_changed_to(self, revision: Revision) -> None:
        """Let readers of the revision see a change of entries that was committed."""
        if not self.entry_revision.covers(revision):
            self.entry_revision = revision


def channel_of(trust_domain_row: int) -> str:
    """The channel on which PostgreSQL tells of the changes of a trust domain."""
    return f"icp_changes_{trust_domain_row}"


async def bind_known(database: Database, trust_domain: TrustDomain, clock: Clock) -> Scope:
    """Bind a database to a trust domain that is in it, and write nothing.

    Raises:
        StoreError: it is not.
        Internal, Unavailable: the database failed.
    """
    query = select(trust_domains.c.id, trust_domains.c.epoch, trust_domains.c.position)
    async with database.read() as connection:
        row = (await connection.execute(query.where(trust_domains.c.name == trust_domain.name))).first()
    if row is None:
        raise StoreError(f"the database has nothing of trust domain {trust_domain}")
    return Scope(database, trust_domain, row.id, Revision(row.epoch, row.position), clock)


async def bind(database: Database, trust_domain: TrustDomain, clock: Clock) -> Scope:
    """Bind a database to a trust domain, which is written down the first time."""

    async def find(connection: AsyncConnection) -> tuple[int, Revision]:
        query = select(trust_domains.c.id, trust_domains.c.epoch, trust_domains.c.position)
        row = (await connection.execute(query.where(trust_domains.c.name == trust_domain.name))).first()
        if row is not None:
            return row.id, Revision(row.epoch, row.position)
        values = {"name": trust_domain.name, "position": 0, "epoch": secrets.token_hex(16)}
        if database.postgres is not None:  # another server may do the same at this moment
            await connection.execute(postgresql.insert(trust_domains).values(values).on_conflict_do_nothing())
        else:
            await connection.execute(insert(trust_domains).values(values))
        return await find(connection)

    row_id, revision = await database.write(find)
    return Scope(database, trust_domain, row_id, revision, clock)
