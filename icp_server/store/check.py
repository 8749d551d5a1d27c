"""Looks whether a database is whole: its file, its schema, every row as a value, and what must hold between rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import TrustDomain
from icp_server.domain.errors import ServiceError
from icp_server.domain.filters import AgentFilter, EntryFilter
from icp_server.domain.results import Page, PageRequest
from icp_server.store import tables
from icp_server.store.backup import PAGE, Progress
from icp_server.store.handle import SQLStore
from icp_server.store.scope import Scope


async def problems(scope: Scope, progress: Progress) -> list[str]:
    """What is wrong, in words; nothing if nothing is.

    Raises:
        Unavailable: the database cannot be asked.
    """
    found = [problem async for problem in _of_the_file(scope)]
    store = SQLStore(scope)
    done = 0
    try:
        async for count in _read(lambda page: store.entries.list(EntryFilter(), page)):
            done += count
            progress(done)
    except ServiceError as error:
        found.append(f"entries: {error.message}")
    try:
        async for count in _read(lambda page: store.agents.list(AgentFilter(), page)):
            done += count
            progress(done)
    except ServiceError as error:
        found.append(f"agents: {error.message}")
    async with scope.read() as connection:
        names = list((await connection.execute(scope.select(tables.bundles, tables.bundles.c.name))).scalars())
        found += [problem async for problem in _of_rows(scope, connection)]
    for name in names:
        try:
            await store.bundles.published(TrustDomain(name))
        except ServiceError as error:
            found.append(f"bundle of {name}: {error.message}")
    return found


async def _read(page_of: Callable[[PageRequest], Awaitable[Page[Any]]]) -> AsyncIterator[int]:
    token = ""
    while True:
        page = await page_of(PageRequest(PAGE, token))
        yield len(page.items)
        token = page.next_token
        if not token:
            return


async def _of_the_file(scope: Scope) -> AsyncIterator[str]:
    if scope.database.postgres is not None:
        return
    async with scope.read() as connection:
        for said in (await connection.execute(text("PRAGMA integrity_check"))).scalars():
            if said != "ok":
                yield f"SQLite: {said}"
        for row in await connection.execute(text("PRAGMA foreign_key_check")):
            yield f"SQLite: row {row[1]} of {row[0]} belongs to a row of {row[2]} that is not there"


async def _of_rows(scope: Scope, connection: AsyncConnection) -> AsyncIterator[str]:
    changes, trust_domains = tables.changes, tables.trust_domains
    newest = scope.select(changes, func.coalesce(func.max(changes.c.position), 0))
    query = trust_domains.select().where(trust_domains.c.id == scope.row_id)
    row = (await connection.execute(query)).one()
    if (await connection.execute(newest)).scalar_one() > row.position:
        yield "the log of changes is ahead of the position it belongs to"
    if not row.epoch:
        yield "the trust domain has no epoch: positions from before a restore cannot be told from later ones"
    having = scope.select(tables.entry_selectors, tables.entry_selectors.c.entry_row_id)
    bare = scope.select(tables.entries, tables.entries.c.entry_id).where(tables.entries.c.id.not_in(having))
    for entry_id in (await connection.execute(bare)).scalars():
        yield f"entry {entry_id} has no selectors: it is nobody's"
