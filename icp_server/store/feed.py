"""The log of changes as a follower reads it: what became different since, in one snapshot."""

from __future__ import annotations

from types import MappingProxyType

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID
from icp_server.domain.revision import Changes, Revision
from icp_server.store.scope import AGENT, CHANGES_KEPT, ENTRY, Scope
from icp_server.store.tables import bundles, changes, trust_domains


async def revision_of(scope: Scope, connection: AsyncConnection) -> Revision:
    """Where the log stands in this snapshot.

    Positions are counted under the lock of the row they are read from, which is held until the commit: so whatever
    has a position up to this one is in the snapshot too.
    """
    query = select(trust_domains.c.epoch, trust_domains.c.position).where(trust_domains.c.id == scope.row_id)
    row = (await connection.execute(query)).one()
    return Revision(row.epoch, row.position)


def reaches_back(now: Revision, known: Revision | None) -> bool:
    """Whether the log tells everything since a revision."""
    if known is None or known.epoch != now.epoch:
        return False
    return now.position - CHANGES_KEPT <= known.position <= now.position


async def changes_since(scope: Scope, known: Revision | None) -> Changes:
    """What became different after a revision."""
    async with scope.read() as connection:
        now = await revision_of(scope, connection)
        query = scope.select(bundles, bundles.c.name, bundles.c.revision)
        held = MappingProxyType({row.name: row.revision for row in await connection.execute(query)})
        if known is None or not reaches_back(now, known):
            return Changes(now, complete=True, bundles=held)
        if known == now:
            return Changes(now, complete=False, bundles=held)
        found = scope.select(changes, changes.c.kind, changes.c.name).where(changes.c.position > known.position)
        names: dict[str, set[str]] = {ENTRY: set(), AGENT: set()}
        for row in await connection.execute(found.distinct()):
            names[row.kind].add(row.name)
        return Changes(
            now,
            complete=False,
            entries=frozenset(names[ENTRY]),
            agents=frozenset(map(SpiffeID.parse, names[AGENT])),
            bundles=held,
        )
