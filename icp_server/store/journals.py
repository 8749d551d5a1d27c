"""CA journals in SQL: bytes with a revision, written by compare-and-swap."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from icp_server.domain.errors import JournalConflictError
from icp_server.ports import StoredJournal
from icp_server.store.scope import Scope
from icp_server.store.tables import ca_journals


class SQLJournalStore:
    """Implements the `JournalStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def all(self) -> tuple[StoredJournal, ...]:
        """The journals of every server of this trust domain, newest first."""
        query = self._scope.select(ca_journals).order_by(ca_journals.c.id.desc())
        async with self._scope.read() as connection:
            return tuple(StoredJournal(row.id, row.revision, row.data) for row in await connection.execute(query))

    async def create(self, data: bytes) -> StoredJournal:
        """A journal for a server that has none."""

        async def work(connection: AsyncConnection) -> StoredJournal:
            statement = self._scope.insert(ca_journals, {"revision": 1, "data": data}).returning(ca_journals.c.id)
            return StoredJournal((await connection.execute(statement)).scalar_one(), 1, data)

        return await self._scope.write(work)

    async def replace(self, journal: StoredJournal, data: bytes) -> StoredJournal:
        """Compare-and-swap on the revision."""

        async def work(connection: AsyncConnection) -> StoredJournal:
            statement = self._scope.update(ca_journals).where(
                ca_journals.c.id == journal.journal_id, ca_journals.c.revision == journal.revision
            )
            done = await connection.execute(statement.values(revision=journal.revision + 1, data=data))
            if done.rowcount != 1:
                raise JournalConflictError(
                    f"the CA journal is not at revision {journal.revision} any more: somebody else wrote it"
                )
            return StoredJournal(journal.journal_id, journal.revision + 1, data)

        return await self._scope.write(work)

    async def delete(self, journal: StoredJournal) -> None:
        """Remove a journal, unless it changed since it was read."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                self._scope.delete(ca_journals).where(
                    ca_journals.c.id == journal.journal_id, ca_journals.c.revision == journal.revision
                )
            )

        await self._scope.write(work)
