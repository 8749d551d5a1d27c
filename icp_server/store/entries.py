"""Registration entries in SQL, with the log of their changes that keeps the index in memory fresh."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import EntryChanges, RegistrationEntry
from authsec_sdk.spire.selectors import unique_selectors
from icp_server.domain.errors import AlreadyExists, NotFound, ServiceError
from icp_server.domain.filters import EntryFilter
from icp_server.domain.results import ItemResult, Page, PageRequest
from icp_server.domain.revision import Revision
from icp_server.ports import EntryDelta
from icp_server.store import entry_rows
from icp_server.store.feed import reaches_back, revision_of
from icp_server.store.paging import next_token, start_of
from icp_server.store.scope import ENTRY, Scope
from icp_server.store.tables import changes, entries, entry_federates_with, entry_selectors

T = TypeVar("T")


class SQLEntryStore:
    """Implements the `EntryStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def create(self, new: Sequence[RegistrationEntry]) -> list[ItemResult[RegistrationEntry]]:
        """Write new entries, each with its own outcome."""

        async def work(connection: AsyncConnection) -> tuple[list[ItemResult[RegistrationEntry]], list[str]]:
            results = [await insert_entry(self._scope, connection, entry) for entry in new]
            return results, [result.value.id for result in results if result.ok and result.value is not None]

        return await change_entries(self._scope, work)

    async def update(
        self, changes: Sequence[EntryChanges], check: Callable[[RegistrationEntry], None]
    ) -> list[ItemResult[RegistrationEntry]]:
        """Change entries, each with its own outcome."""

        async def work(connection: AsyncConnection) -> tuple[list[ItemResult[RegistrationEntry]], list[str]]:
            results: list[ItemResult[RegistrationEntry]] = []
            for change in changes:
                try:
                    results.append(ItemResult(await self._update(connection, change, check)))
                except ServiceError as error:
                    results.append(ItemResult(error=error))
            return results, [result.value.id for result in results if result.value is not None]

        return await change_entries(self._scope, work)

    async def delete(self, ids: Sequence[str]) -> list[ItemResult[str]]:
        """Remove entries, each with its own outcome."""

        async def work(connection: AsyncConnection) -> tuple[list[ItemResult[str]], list[str]]:
            results: list[ItemResult[str]] = []
            for entry_id in ids:
                gone = await connection.execute(self._scope.delete(entries).where(entries.c.entry_id == entry_id))
                results.append(ItemResult(entry_id, None if gone.rowcount else NotFound("entry not found")))
            return results, [result.value for result in results if result.ok and result.value is not None]

        return await change_entries(self._scope, work)

    async def get(self, entry_id: str) -> RegistrationEntry | None:
        """The entry with this id."""
        async with self._scope.read() as connection:
            found = await entry_rows.load(self._scope, connection, entries.c.entry_id == entry_id)
        return found[0][1] if found else None

    async def list(self, filter_: EntryFilter, page: PageRequest) -> Page[RegistrationEntry]:
        """Entries in the order they were created."""
        query = entry_rows.select_filtered(self._scope, filter_)
        query = query.where(entries.c.id > start_of(page)).order_by(entries.c.id)
        async with self._scope.read() as connection:
            rows = (await connection.execute(query.limit(page.size) if page.size else query)).all()
            return Page(tuple(await entry_rows.hydrate(self._scope, connection, rows)), next_token(page, rows))

    async def count(self, filter_: EntryFilter) -> int:
        """How many entries the filter lets through."""
        query = entry_rows.select_filtered(self._scope, filter_, func.count())
        async with self._scope.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    def revision(self) -> Revision:
        """The newest revision this process knows of."""
        return self._scope.entry_revision

    async def changes_since(self, known: Revision | None) -> EntryDelta:
        """What changed after a revision; everything where the log does not reach back so far."""
        async with self._scope.read() as connection:
            now = await revision_of(self._scope, connection)
            if known is None or not reaches_back(now, known):
                found = await entry_rows.load(self._scope, connection)
                return EntryDelta(now, tuple(entry for _, entry in found), frozenset(), complete=True)
            query = self._scope.select(changes, changes.c.name)
            query = query.where(changes.c.position > known.position, changes.c.kind == ENTRY).distinct()
            ids = frozenset((await connection.execute(query)).scalars())
            changed: list[RegistrationEntry] = []
            for chunk in entry_rows.chunks(sorted(ids)):
                found = await entry_rows.load(self._scope, connection, entries.c.entry_id.in_(chunk))
                changed += [entry for _, entry in found]
        return EntryDelta(now, tuple(changed), ids - {entry.id for entry in changed}, complete=False)

    async def inventory(self) -> tuple[Revision, frozenset[tuple[str, int, int]]]:
        """Every entry by id, revision number and time of creation: enough to tell whether another reader has them."""
        async with self._scope.read() as connection:
            now = await revision_of(self._scope, connection)
            query = self._scope.select(entries, entries.c.entry_id, entries.c.revision_number, entries.c.created_at)
            return now, frozenset(tuple(row) for row in await connection.execute(query))

    async def prune_expired(self, now: datetime) -> int:
        """Remove the entries whose own expiry has passed; how many."""

        async def work(connection: AsyncConnection) -> tuple[int, list[str]]:
            expired = self._scope.delete(entries).where(
                entries.c.expires_at > 0, entries.c.expires_at <= int(now.timestamp())
            )
            gone = list((await connection.execute(expired.returning(entries.c.entry_id))).scalars())
            return len(gone), gone

        return await change_entries(self._scope, work)

    async def _update(
        self, connection: AsyncConnection, change: EntryChanges, check: Callable[[RegistrationEntry], None]
    ) -> RegistrationEntry:
        found = await entry_rows.load(self._scope, connection, entries.c.entry_id == change.id)
        if not found:
            raise NotFound("entry not found")
        row_id, entry = found[0]
        wanted = change.apply_to(entry)
        check(wanted)
        wanted = replace(
            wanted, selectors=unique_selectors(wanted.selectors), revision_number=entry.revision_number + 1
        )
        federates_with = await entry_rows.bundle_ids(self._scope, connection, wanted.federates_with)
        await connection.execute(
            self._scope.update(entries).where(entries.c.id == row_id).values(entry_rows.columns_of(wanted))
        )
        for parts in (entry_selectors, entry_federates_with):
            await connection.execute(self._scope.delete(parts, by_row=True).where(parts.c.entry_row_id == row_id))
        await entry_rows.write_parts(self._scope, connection, row_id, wanted, federates_with)
        return wanted


async def insert_entry(
    scope: Scope, connection: AsyncConnection, entry: RegistrationEntry
) -> ItemResult[RegistrationEntry]:
    """Write one new entry in a transaction of `change_entries`."""
    similar = entry_rows.selector_digest(entry.selectors)
    for clauses in (
        [entries.c.entry_id == entry.id],
        [
            entries.c.selector_digest == similar,
            entries.c.spiffe_id == str(entry.spiffe_id),
            entries.c.parent_id == str(entry.parent_id),
        ],
    ):
        found = await entry_rows.load(scope, connection, *clauses)
        if found:
            return ItemResult(found[0][1], AlreadyExists("similar entry already exists"))
    try:
        federates_with = await entry_rows.bundle_ids(scope, connection, entry.federates_with)
    except ServiceError as error:
        return ItemResult(error=error)
    entry = replace(entry, selectors=unique_selectors(entry.selectors), created_at=scope.now(), revision_number=0)
    made = await connection.execute(scope.insert(entries, entry_rows.columns_of(entry)).returning(entries.c.id))
    await entry_rows.write_parts(scope, connection, made.scalar_one(), entry, federates_with)
    return ItemResult(entry)


async def change_entries(
    scope: Scope,
    work: Callable[[AsyncConnection], Awaitable[tuple[T, list[str]]]],
    committed: Callable[[], None] = lambda: None,
    *,
    agents: Sequence[SpiffeID] = (),
) -> T:
    """Run a write that gives its result and the ids of the entries it changed; their change is logged with it.

    ``agents`` are logged too, whatever becomes of the entries.
    """

    async def logged(connection: AsyncConnection) -> tuple[T, Revision | None]:
        result, changed = await work(connection)
        if not (changed or agents):
            return result, None
        revision = await scope.note(connection, entries=changed, agents=agents)
        return result, revision if changed else None

    def done(outcome: tuple[T, Revision | None]) -> None:
        if outcome[1] is not None:
            scope.entries_changed_to(outcome[1])
        committed()

    return (await scope.write(logged, done))[0]
