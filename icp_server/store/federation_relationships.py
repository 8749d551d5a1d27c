"""Federation relationships in SQL: a row each; the bundle beside one is the trust domain's own row of `bundles`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.domain.errors import AlreadyExists, NotFound
from icp_server.domain.federation import Endpoint, FederationRelationship, RelationshipChanges
from icp_server.domain.results import Page, PageRequest
from icp_server.store.bundle_rows import load, put_bundle
from icp_server.store.paging import next_token, start_of
from icp_server.store.scope import Scope
from icp_server.store.tables import federation_relationships


class SQLFederationRelationshipStore:
    """Implements the `FederationRelationshipStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def get(self, trust_domain: TrustDomain) -> FederationRelationship | None:
        """The relationship with a trust domain."""
        async with self._scope.read() as connection:
            row = await self._find(connection, trust_domain)
            return None if row is None else await self._relationship(connection, row)

    async def list(self, page: PageRequest) -> Page[FederationRelationship]:
        """Relationships in the order they were created."""
        query = self._scope.select(federation_relationships).where(federation_relationships.c.id > start_of(page))
        query = query.order_by(federation_relationships.c.id)
        async with self._scope.read() as connection:
            rows = (await connection.execute(query.limit(page.size) if page.size else query)).all()
            found = [await self._relationship(connection, row) for row in rows]
        return Page(tuple(found), next_token(page, rows))

    async def endpoints(self) -> dict[TrustDomain, Endpoint]:
        """Where the bundle of each trust domain is fetched."""
        async with self._scope.read() as connection:
            rows = (await connection.execute(self._scope.select(federation_relationships))).all()
        return {TrustDomain(row.name): _endpoint(row) for row in rows}

    async def create(self, new: FederationRelationship) -> FederationRelationship:
        """Write a relationship, and the bundle that comes with it."""

        async def work(connection: AsyncConnection) -> FederationRelationship:
            if await self._find(connection, new.trust_domain) is not None:
                raise AlreadyExists(f"there is a federation relationship with {new.trust_domain} already")
            if new.bundle is not None:
                await put_bundle(self._scope, connection, new.bundle)
            values = {"name": new.trust_domain.name, **_columns(new.endpoint)}
            await connection.execute(self._scope.insert(federation_relationships, values))
            return new

        return await self._scope.write(work)

    async def update(self, changes: RelationshipChanges) -> FederationRelationship:
        """Change a relationship, and write the bundle that comes with it; what it is then."""

        async def work(connection: AsyncConnection) -> FederationRelationship:
            row = await self._find(connection, changes.trust_domain)
            if row is None:
                raise NotFound(f"there is no federation relationship with {changes.trust_domain}")
            if changes.bundle is not None:
                await put_bundle(self._scope, connection, changes.bundle)
            known = _endpoint(row)
            url = known.url if changes.url is None else changes.url
            wanted = Endpoint(url, known.server_id if changes.profile is None else changes.profile.server_id)
            written = self._scope.update(federation_relationships).where(federation_relationships.c.id == row.id)
            await connection.execute(written.values(_columns(wanted)))
            row = await self._find(connection, changes.trust_domain)
            assert row is not None, "it was written in this transaction"
            return await self._relationship(connection, row)

        return await self._scope.write(work)

    async def delete(self, trust_domain: TrustDomain) -> None:
        """Remove a relationship; the bundle stays."""

        async def work(connection: AsyncConnection) -> None:
            gone = self._scope.delete(federation_relationships)
            gone = gone.where(federation_relationships.c.name == trust_domain.name)
            if not (await connection.execute(gone)).rowcount:
                raise NotFound("federation relationship not found")

        await self._scope.write(work)

    async def _find(self, connection: AsyncConnection, trust_domain: TrustDomain) -> Row[Any] | None:
        query = self._scope.select(federation_relationships)
        query = query.where(federation_relationships.c.name == trust_domain.name)
        found: Row[Any] | None = (await connection.execute(query)).first()
        return found

    async def _relationship(self, connection: AsyncConnection, row: Row[Any]) -> FederationRelationship:
        trust_domain = TrustDomain(row.name)
        return FederationRelationship(trust_domain, _endpoint(row), await load(self._scope, connection, trust_domain))


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(row.url, SpiffeID.parse(row.server_id) if row.server_id else None)


def _columns(endpoint: Endpoint) -> dict[str, object]:
    return {"url": endpoint.url, "server_id": "" if endpoint.server_id is None else str(endpoint.server_id)}
