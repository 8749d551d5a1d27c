"""Certificates with admin or downstream rights, by fingerprint: an ID alone gives nobody such rights."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID
from icp_server.domain.issued import IssuedSVID
from icp_server.store.scope import Scope
from icp_server.store.tables import privileged_svids


class SQLIssuanceStore:
    """Implements the `IssuanceStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def record(self, issued: Sequence[IssuedSVID]) -> None:
        """Remember certificates."""
        rows: list[dict[str, object]] = [
            {"spiffe_id": str(svid.spiffe_id), "fingerprint": svid.fingerprint, "expires_at": svid.expires_at}
            for svid in issued
        ]

        async def work(connection: AsyncConnection) -> None:
            await self._scope.insert_all(connection, privileged_svids, rows)

        await self._scope.write(work)

    async def known(self, spiffe_id: SpiffeID, fingerprint: str) -> bool:
        """Whether this certificate was issued here."""
        query = self._scope.select(privileged_svids, privileged_svids.c.id).where(
            privileged_svids.c.spiffe_id == str(spiffe_id), privileged_svids.c.fingerprint == fingerprint
        )
        async with self._scope.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def prune(self, now: datetime) -> int:
        """Forget the expired ones; how many."""

        async def work(connection: AsyncConnection) -> int:
            expired = self._scope.delete(privileged_svids).where(privileged_svids.c.expires_at <= int(now.timestamp()))
            return (await connection.execute(expired)).rowcount

        return await self._scope.write(work)
