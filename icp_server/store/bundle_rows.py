"""The rows of bundles: found, made, touched, and read as values; what every aggregate about authorities shares."""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle, TaintedAuthorities
from icp_server.store.scope import Scope
from icp_server.store.tables import bundle_authorities, bundles

X509: Final = "x509"
JWT: Final = "jwt"
WIT: Final = "wit"
"""The kinds of authorities, as the table has them."""


async def find_bundle(scope: Scope, connection: AsyncConnection, trust_domain: TrustDomain) -> int | None:
    """The row of a bundle, if there is one."""
    query = scope.select(bundles, bundles.c.id).where(bundles.c.name == trust_domain.name)
    row_id = (await connection.execute(query)).scalar()
    return None if row_id is None else int(row_id)


async def own_bundle(scope: Scope, connection: AsyncConnection) -> tuple[int, bool]:
    """The row of the own bundle, and whether it was made just now."""
    row_id = await find_bundle(scope, connection, scope.trust_domain)
    if row_id is not None:
        return row_id, False
    now = scope.now()
    values = {
        "name": scope.trust_domain.name,
        "sequence_number": 0,
        "refresh_hint": 0,
        "created_at": now,
        "updated_at": now,
    }
    made = await connection.execute(scope.insert(bundles, values).returning(bundles.c.id))
    return int(made.scalar_one()), True


async def touch(scope: Scope, connection: AsyncConnection, bundle_id: int) -> None:
    """Count a change of the bundle."""
    changed = scope.update(bundles).where(bundles.c.id == bundle_id)
    await connection.execute(changed.values(sequence_number=bundles.c.sequence_number + 1, updated_at=scope.now()))


async def load(scope: Scope, connection: AsyncConnection, trust_domain: TrustDomain) -> PublishedBundle | None:
    """A bundle with its marks."""
    row = (await connection.execute(scope.select(bundles).where(bundles.c.name == trust_domain.name))).first()
    if row is None:
        return None
    query = scope.select(bundle_authorities).where(bundle_authorities.c.bundle_id == row.id)
    authorities = (await connection.execute(query.order_by(bundle_authorities.c.id))).all()
    certificates = [(x509.load_der_x509_certificate(each.data), each.tainted) for each in _of(authorities, X509)]
    keys = [each for each in authorities if each.kind in (JWT, WIT)]
    bundle = TrustBundle(
        trust_domain,
        x509_authorities=tuple(certificate for certificate, _ in certificates),
        jwt_authorities={each.key_id: _public_key(each.data) for each in _of(authorities, JWT)},
        wit_authorities={each.key_id: _public_key(each.data) for each in _of(authorities, WIT)},
        sequence_number=row.sequence_number,
        refresh_hint=timedelta(seconds=row.refresh_hint) if row.refresh_hint else None,
    )
    tainted = TaintedAuthorities(
        tuple(certificate for certificate, tainted in certificates if tainted),
        frozenset(each.key_id for each in _of(authorities, JWT) if each.tainted),
        frozenset(each.key_id for each in _of(authorities, WIT) if each.tainted),
    )
    return PublishedBundle(bundle, tainted, MappingProxyType({each.key_id: each.not_after for each in keys}))


def _of(authorities: Any, kind: str) -> list[Row[Any]]:
    return [each for each in authorities if each.kind == kind]


def _public_key(data: bytes) -> JWTPublicKey:
    return cast("JWTPublicKey", load_der_public_key(data))  # the bundle's constructor looks at its kind
