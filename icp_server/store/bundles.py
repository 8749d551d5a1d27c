"""Trust bundles in SQL: a row a bundle, a row an authority."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.store.bundle_rows import X509, find_bundle, load, own_bundle, touch
from icp_server.store.scope import Scope
from icp_server.store.tables import bundle_authorities


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

    async def append_x509(self, certificate_der: bytes) -> TrustBundle:
        """Add an authority to the own bundle."""
        certificate = x509.load_der_x509_certificate(certificate_der)
        key_id = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest.hex()

        async def work(connection: AsyncConnection) -> TrustBundle:
            bundle_id, made = await own_bundle(self._scope, connection)
            known = self._scope.select(bundle_authorities, bundle_authorities.c.id).where(
                bundle_authorities.c.bundle_id == bundle_id,
                bundle_authorities.c.kind == X509,
                bundle_authorities.c.data == certificate_der,
            )
            if (await connection.execute(known)).first() is None:
                values = {
                    "bundle_id": bundle_id,
                    "kind": X509,
                    "key_id": key_id,
                    "data": certificate_der,
                    "not_after": int(certificate.not_valid_after_utc.timestamp()),
                    "tainted": False,
                }
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
