"""Trust bundles in SQL: a row a bundle, a row an authority."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.errors import AlreadyExists, FailedPrecondition, NotFound
from icp_server.domain.federation import BundleFields, DeleteMode
from icp_server.domain.results import Page, PageRequest
from icp_server.store.authorities import insert_key
from icp_server.store.bundle_rows import (
    X509,
    find_bundle,
    keys_of,
    load,
    own_bundle,
    published_of,
    put_bundle,
    touch,
    x509_row,
)
from icp_server.store.entries import change_entries
from icp_server.store.paging import next_token, start_of
from icp_server.store.scope import Scope
from icp_server.store.tables import bundle_authorities, bundles, entries, entry_federates_with


class SQLBundleStore:
    """Implements the `BundleStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def get(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """The bundle of a trust domain."""
        found = await self.published(trust_domain)
        return found.bundle if found else None

    async def published(self, trust_domain: TrustDomain) -> PublishedBundle | None:
        """The bundle of a trust domain with what is tainted and when keys end."""

        async def read() -> PublishedBundle | None:
            async with self._scope.read() as connection:
                return await load(self._scope, connection, trust_domain)

        # A file is read each time; a shared database is asked when it changed, and does without while it is away.
        if self._scope.database.postgres is None:
            return await read()
        return await self._scope.remembered.get(trust_domain, read)

    async def count(self) -> int:
        """How many bundles there are, the own one included."""
        async with self._scope.read() as connection:
            return int((await connection.execute(self._scope.select(bundles, func.count()))).scalar_one())

    async def list(self, page: PageRequest) -> Page[PublishedBundle]:
        """Bundles in the order they were made, the own one among them."""
        query = self._scope.select(bundles).where(bundles.c.id > start_of(page)).order_by(bundles.c.id)
        async with self._scope.read() as connection:
            rows = (await connection.execute(query.limit(page.size) if page.size else query)).all()
            found = [await published_of(self._scope, connection, row) for row in rows]
        return Page(tuple(found), next_token(page, rows))

    async def create(self, bundle: PublishedBundle) -> PublishedBundle:
        """Keep a bundle of a trust domain that has none."""

        async def work(connection: AsyncConnection) -> PublishedBundle:
            trust_domain = bundle.bundle.trust_domain
            if await find_bundle(self._scope, connection, trust_domain) is not None:
                raise AlreadyExists("bundle already exists")
            return await put_bundle(self._scope, connection, bundle)

        return await self._scope.write(work)

    async def update(self, bundle: PublishedBundle, fields: BundleFields) -> PublishedBundle:
        """Replace parts of a bundle."""

        async def work(connection: AsyncConnection) -> PublishedBundle:
            if await find_bundle(self._scope, connection, bundle.bundle.trust_domain) is None:
                raise NotFound("bundle not found")
            return await put_bundle(self._scope, connection, bundle, fields)

        return await self._scope.write(work)

    async def set(self, bundle: PublishedBundle) -> PublishedBundle:
        """Keep a bundle, in place of the one there may be."""
        return await self._scope.write(lambda connection: put_bundle(self._scope, connection, bundle))

    async def delete(self, trust_domain: TrustDomain, mode: DeleteMode) -> None:
        """Delete a bundle, and do with the entries that federate with it what the mode says."""

        async def work(connection: AsyncConnection) -> tuple[None, list[str]]:
            bundle_id = await find_bundle(self._scope, connection, trust_domain)
            if bundle_id is None:
                raise NotFound("bundle not found")
            federated = await _release(self._scope, connection, bundle_id, mode)
            await connection.execute(self._scope.delete(bundles).where(bundles.c.id == bundle_id))
            return None, federated

        await change_entries(self._scope, work)

    async def append(self, authorities: PublishedBundle) -> PublishedBundle:
        """Add authorities to the own bundle; the sequence number goes up by one if any of them was not in."""

        async def work(connection: AsyncConnection) -> PublishedBundle:
            bundle_id, made = await own_bundle(self._scope, connection)
            before = await load(self._scope, connection, self._scope.trust_domain)
            assert before is not None, "it was written in this transaction"
            known = before.bundle.x509_bundle()
            changed = False
            for certificate in authorities.bundle.x509_authorities:
                if not known.contains(certificate):
                    await connection.execute(self._scope.insert(bundle_authorities, x509_row(bundle_id, certificate)))
                    changed = True
            for kind, key_id, data in keys_of(authorities.bundle):
                end = authorities.key_expiry.get(key_id, 0)
                changed |= await insert_key(self._scope, connection, bundle_id, kind, key_id, data, end)
            if changed and not made:
                await touch(self._scope, connection, bundle_id)
            after = await load(self._scope, connection, self._scope.trust_domain)
            assert after is not None, "it was written in this transaction"
            return after

        return await self._scope.write(work)

    async def append_x509(self, certificate_der: bytes) -> TrustBundle:
        """Add an authority to the own bundle."""
        certificate = x509.load_der_x509_certificate(certificate_der)

        async def work(connection: AsyncConnection) -> TrustBundle:
            bundle_id, made = await own_bundle(self._scope, connection)
            known = self._scope.select(bundle_authorities, bundle_authorities.c.id).where(
                bundle_authorities.c.bundle_id == bundle_id,
                bundle_authorities.c.kind == X509,
                bundle_authorities.c.data == certificate_der,
            )
            if (await connection.execute(known)).first() is None:
                values = x509_row(bundle_id, certificate)
                await connection.execute(self._scope.insert(bundle_authorities, values))
                if not made:
                    await touch(self._scope, connection, bundle_id)
            found = await load(self._scope, connection, self._scope.trust_domain)
            assert found is not None, "it was written in this transaction"
            return found.bundle

        return await self._scope.write(work)

    async def prune_x509(self, expired_before: datetime) -> TrustBundle | None:
        """Remove the own authorities that expired before; the bundle if that changed it. The last one stays."""

        async def work(connection: AsyncConnection) -> TrustBundle | None:
            bundle_id = await find_bundle(self._scope, connection, self._scope.trust_domain)
            if bundle_id is None:
                return None
            own = (bundle_authorities.c.bundle_id == bundle_id, bundle_authorities.c.kind == X509)
            newest = self._scope.select(bundle_authorities, func.max(bundle_authorities.c.id)).where(*own)
            gone = self._scope.delete(bundle_authorities).where(
                *own,
                bundle_authorities.c.not_after < int(expired_before.timestamp()),
                bundle_authorities.c.id != newest.scalar_subquery(),
            )
            if not (await connection.execute(gone)).rowcount:
                return None
            await touch(self._scope, connection, bundle_id)
            found = await load(self._scope, connection, self._scope.trust_domain)
            return found.bundle if found else None

        return await self._scope.write(work)


async def _release(scope: Scope, connection: AsyncConnection, bundle_id: int, mode: DeleteMode) -> list[str]:
    """Take a bundle out of all entries; the ids of those that are gone or different now."""
    links = scope.select(entry_federates_with, entry_federates_with.c.entry_row_id)
    links = links.where(entry_federates_with.c.bundle_id == bundle_id)
    theirs = entries.c.id.in_(links.scalar_subquery())
    ids = list((await connection.execute(scope.select(entries, entries.c.entry_id).where(theirs))).scalars())
    if ids and mode is DeleteMode.RESTRICT:
        raise FailedPrecondition(f"datastore-sql: cannot delete bundle; federated with {len(ids)} registration entries")
    if mode is DeleteMode.DELETE:
        await connection.execute(scope.delete(entries).where(theirs))
    elif ids:
        # The revision tells agents that the entry is another one: they would ask for the bundle for ever.
        raised = scope.update(entries).where(theirs).values(revision_number=entries.c.revision_number + 1)
        await connection.execute(raised)
        gone = scope.delete(entry_federates_with).where(entry_federates_with.c.bundle_id == bundle_id)
        await connection.execute(gone)
    return ids
