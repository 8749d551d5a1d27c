"""Puts a backup back without bringing back what was taken away since: tokens, bans that were lifted or not yet made.

Into a database without agents and authorities, everything is put back; join tokens are spent. Where there are some,
they are newer than the backup's and stay as they are (agents with their bans, authorities, tokens, journals): only the
entries, and what belongs to other trust domains (bundles, relationships), are replaced. Either way a new epoch begins:
no server and no agent takes a position from before for one of after.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Table, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from icp_server.store import tables
from icp_server.store.backup import PAGE, BackupError, Line, Progress, read_header, read_lines
from icp_server.store.schema import REVISIONS
from icp_server.store.scope import Scope

_ALWAYS: Final = (
    tables.entries,
    tables.entry_selectors,
    tables.entry_federates_with,
    tables.federation_relationships,
)
"""What a restore replaces, whatever else the database has."""
_OWNERS: Final = {
    "bundle_id": tables.bundles,
    "entry_row_id": tables.entries,
    "agent_row_id": tables.agents,
}
"""Columns that name another row by its number, which is another one after the restore."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    rows: int
    made_at: datetime
    everything: bool
    """False: the database had agents and authorities of its own, which stayed."""


async def restore(scope: Scope, path: Path, progress: Progress, *, replace: bool = False) -> Restored:
    """Put a backup back, all of it or nothing.

    Raises:
        BackupError: the file is not a whole backup of this trust domain and release; or the database has entries, and
            is not to have them replaced.
        Internal, Unavailable: the database failed.
    """
    header = read_header(path)
    if header.trust_domain != scope.trust_domain.name:
        raise BackupError(f"{path} is a backup of trust domain {header.trust_domain}, not of {scope.trust_domain}")
    if header.schema != REVISIONS[-1]:
        raise BackupError(
            f"{path} has schema {header.schema}, this release {REVISIONS[-1]}: restore it with the release that made "
            "it, and migrate then"
        )

    async def work(connection: AsyncConnection) -> Restored:
        used = [await _has_rows(scope, connection, table) for table in (tables.agents, tables.bundle_authorities)]
        everything = not any(used)
        if not replace and (not everything or await _has_rows(scope, connection, tables.entries)):
            raise BackupError("the database is not empty: use -replace to replace its entries by those of the backup")
        for table in (tables.entries, tables.federation_relationships):
            await connection.execute(scope.delete(table))
        if everything:
            for table in (tables.bundles, tables.ca_journals, tables.privileged_svids, tables.spent_join_tokens):
                await connection.execute(scope.delete(table))
        else:
            others = tables.bundles.c.name != scope.trust_domain.name
            await connection.execute(scope.delete(tables.bundles).where(others))
        rows = await _Writer(scope, connection, progress, everything=everything).write(read_lines(path))
        await connection.execute(scope.delete(tables.changes))
        await connection.execute(
            update(tables.trust_domains)
            .where(tables.trust_domains.c.id == scope.row_id)
            .values(epoch=secrets.token_hex(16), position=tables.trust_domains.c.position + 1)
        )
        return Restored(rows, header.made_at, everything)

    return await scope.write(work)


async def _has_rows(scope: Scope, connection: AsyncConnection, table: Table) -> bool:
    return (await connection.execute(scope.select(table, table.c.id).limit(1))).first() is not None


class _Writer:
    """Writes lines in their order, and knows which number each row has now."""

    def __init__(self, scope: Scope, connection: AsyncConnection, progress: Progress, *, everything: bool) -> None:
        self._scope = scope
        self._connection = connection
        self._progress = progress
        self._everything = everything
        self._numbers: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._written = 0

    async def write(self, lines: Iterator[Line]) -> int:
        for table, of_table in groupby(lines, key=lambda line: line.table):
            for page in _pages(of_table):
                await self._write(table, page)
        return self._written

    async def _write(self, table: Table, page: list[Line]) -> None:
        kept = [line for line in page if await self._is_wanted(line)]
        if not kept:
            return
        rows = [{"trust_domain_id": self._scope.row_id, **self._renumbered(line)} for line in kept]
        made = await self._connection.execute(insert(table).returning(table.c.id, sort_by_parameter_order=True), rows)
        self._numbers[table.name].update(zip((line.number for line in kept), made.scalars(), strict=True))
        self._written += len(rows)
        self._progress(self._written)

    async def _is_wanted(self, line: Line) -> bool:
        if self._everything or line.table in _ALWAYS:
            return True
        if line.table is tables.bundles:
            if line.values["name"] != self._scope.trust_domain.name:
                return True
            await self._adopt_own_bundle(line)
            return False
        # Authorities of the own bundle stay as they are now: one of the backup may have been revoked since.
        return line.table is tables.bundle_authorities and line.values["bundle_id"] not in self._adopted()

    async def _adopt_own_bundle(self, line: Line) -> None:
        """Let entries of the backup that federate with the own trust domain name the bundle that is here."""
        query = self._scope.select(tables.bundles, tables.bundles.c.id)
        query = query.where(tables.bundles.c.name == self._scope.trust_domain.name)
        here = (await self._connection.execute(query)).scalar()
        if here is not None:
            self._numbers[tables.bundles.name][line.number] = here
            self._numbers["own bundle"][line.number] = here

    def _adopted(self) -> Iterable[int]:
        return self._numbers["own bundle"]

    def _renumbered(self, line: Line) -> dict[str, Any]:
        values = dict(line.values)
        if line.table is tables.bundles:
            values["revision"] = secrets.randbits(62)  # whoever remembers a bundle by its number reads it anew
        for column, table in _OWNERS.items():
            if column in values:
                number = self._numbers[table.name].get(values[column])
                if number is None:
                    raise BackupError(f"a row of {line.table.name} belongs to a row that is not in the backup")
                values[column] = number
        return values


def _pages(lines: Iterable[Line]) -> Iterator[list[Line]]:
    page: list[Line] = []
    for line in lines:
        page.append(line)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
