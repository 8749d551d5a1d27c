"""Trust bundles in SQL: a row a bundle, a row an authority."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import TrustBundle, TrustDomain
from icp_server.store.scope import Scope
from icp_server.store.tables import bundle_authorities, bundles

_X509 = "x509"


class SQLBundleStore:
    """Implements the `BundleStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def get(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """The bundle of a trust domain."""
        async with self._scope.read() as connection:
            return await self._load(connection, trust_domain)

    async def append_x509(self, certificate_der: bytes) -> TrustBundle:
        """Add an authority to the own bundle."""
        certificate = x509.load_der_x509_certificate(certificate_der)
        key_id = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest.hex()

        async def work(connection: AsyncConnection) -> TrustBundle:
            bundle_id, made = await self._own_row(connection)
            known = self._scope.select(bundle_authorities, bundle_authorities.c.id).where(
                bundle_authorities.c.bundle_id == bundle_id,
                bundle_authorities.c.kind == _X509,
                bundle_authorities.c.data == certificate_der,
            )
            if (await connection.execute(known)).first() is None:
                values = {
                    "bundle_id": bundle_id,
                    "kind": _X509,
                    "key_id": key_id,
                    "data": certificate_der,
                    "not_after": int(certificate.not_valid_after_utc.timestamp()),
                    "tainted": False,
                }
                await connection.execute(self._scope.insert(bundle_authorities, values))
                if not made:
                    await self._touch(connection, bundle_id)
            bundle = await self._load(connection, self._scope.trust_domain)
            assert bundle is not None, "it was written in this transaction"
            return bundle

        return await self._scope.write(work)

    async def prune_x509(self, expired_before: datetime) -> TrustBundle | None:
        """Remove the own authorities that expired before; the bundle if that changed it. The last one stays."""

        async def work(connection: AsyncConnection) -> TrustBundle | None:
            query = self._scope.select(bundles, bundles.c.id).where(bundles.c.name == self._scope.trust_domain.name)
            bundle_id = (await connection.execute(query)).scalar()
            if bundle_id is None:
                return None
            own = (bundle_authorities.c.bundle_id == bundle_id, bundle_authorities.c.kind == _X509)
            newest = self._scope.select(bundle_authorities, func.max(bundle_authorities.c.id)).where(*own)
            gone = self._scope.delete(bundle_authorities).where(
                *own,
                bundle_authorities.c.not_after < int(expired_before.timestamp()),
                bundle_authorities.c.id != newest.scalar_subquery(),
            )
            if not (await connection.execute(gone)).rowcount:
                return None
            await self._touch(connection, bundle_id)
            return await self._load(connection, self._scope.trust_domain)

        return await self._scope.write(work)

    async def _own_row(self, connection: AsyncConnection) -> tuple[int, bool]:
        name = self._scope.trust_domain.name
        query = self._scope.select(bundles, bundles.c.id).where(bundles.c.name == name)
        row_id = (await connection.execute(query)).scalar()
        if row_id is not None:
            return row_id, False
        now = self._scope.now()
        values = {"name": name, "sequence_number": 0, "refresh_hint": 0, "created_at": now, "updated_at": now}
        made = await connection.execute(self._scope.insert(bundles, values).returning(bundles.c.id))
        return made.scalar_one(), True

    async def _touch(self, connection: AsyncConnection, bundle_id: int) -> None:
        changed = self._scope.update(bundles).where(bundles.c.id == bundle_id)
        await connection.execute(
            changed.values(sequence_number=bundles.c.sequence_number + 1, updated_at=self._scope.now())
        )

    async def _load(self, connection: AsyncConnection, trust_domain: TrustDomain) -> TrustBundle | None:
        row = (await connection.execute(self._scope.select(bundles).where(bundles.c.name == trust_domain.name))).first()
        if row is None:
            return None
        query = self._scope.select(bundle_authorities, bundle_authorities.c.data).where(
            bundle_authorities.c.bundle_id == row.id, bundle_authorities.c.kind == _X509
        )
        ders = (await connection.execute(query.order_by(bundle_authorities.c.id))).scalars()
        return TrustBundle(
            trust_domain,
            x509_authorities=tuple(x509.load_der_x509_certificate(data) for data in ders),
            sequence_number=row.sequence_number,
            refresh_hint=timedelta(seconds=row.refresh_hint) if row.refresh_hint else None,
        )
