"""A database bound to one trust domain: what the aggregates of a store share, and the only way they make queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Insert,
    Select,
    Table,
    Update,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import TrustDomain
from icp_server.ports import Clock
from icp_server.store.database import Database
from icp_server.store.tables import entry_changes, trust_domains

T = TypeVar("T")

_CHANGES_KEPT = 10_000


class Scope:
    """Transactions and statements that cannot leave the trust domain. Made by `bind`."""

    def __init__(self, database: Database, trust_domain: TrustDomain, row_id: int, position: int, clock: Clock) -> None:
        self.trust_domain = trust_domain
        self.entry_position = position
        self.read = database.read
        self._database = database
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
        if self._database.postgres is None:
            return await self._database.write(work, committed)

        async def locked(connection: AsyncConnection) -> T:
            await connection.execute(select(trust_domains.c.id).where(trust_domains.c.id == self._id).with_for_update())
            return await work(connection)

        return await self._database.write(locked, committed)

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

    async def note_entry_changes(self, connection: AsyncConnection, entry_ids: list[str]) -> int:
        """Log changed entries under the next position; give that to `entries_changed_to` after the commit."""
        counted = (
            update(trust_domains)
            .where(trust_domains.c.id == self._id)
            .values(entry_position=trust_domains.c.entry_position + 1)
            .returning(trust_domains.c.entry_position)
        )
        position = int((await connection.execute(counted)).scalar_one())
        await self.insert_all(
            connection, entry_changes, [{"position": position, "entry_id": entry_id} for entry_id in entry_ids]
        )
        await connection.execute(self.delete(entry_changes).where(entry_changes.c.position <= position - _CHANGES_KEPT))
        return position

    def entries_changed_to(self, position: int) -> None:
        """Let readers of the position see a change that was committed."""
        self.entry_position = max(self.entry_position, position)

    def changes_reach_back_to(self) -> int:
        """The oldest position from which the log is whole."""
        return max(0, self.entry_position - _CHANGES_KEPT)


async def bind(database: Database, trust_domain: TrustDomain, clock: Clock) -> Scope:
    """Bind a database to a trust domain, which is written down the first time."""

    async def find(connection: AsyncConnection) -> tuple[int, int]:
        query = select(trust_domains.c.id, trust_domains.c.entry_position)
        row = (await connection.execute(query.where(trust_domains.c.name == trust_domain.name))).first()
        if row is not None:
            return row.id, row.entry_position
        values = {"name": trust_domain.name, "entry_position": 0}
        if database.postgres is not None:  # another server may do the same at this moment
            new = postgresql.insert(trust_domains).values(values).on_conflict_do_nothing()
            await connection.execute(new)
            return await find(connection)
        made = insert(trust_domains).values(values).returning(trust_domains.c.id)
        return (await connection.execute(made)).scalar_one(), 0

    row_id, position = await database.write(find)
    return Scope(database, trust_domain, row_id, position, clock)
