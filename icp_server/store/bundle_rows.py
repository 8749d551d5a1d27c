"""The rows of bundles: found, made, touched, and read as values; what every aggregate about authorities shares."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle, TaintedAuthorities
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.errors import InvalidArgument
from icp_server.domain.federation import ALL_FIELDS, BundleFields
from icp_server.store.scope import Scope
from icp_server.store.tables import bundle_authorities, bundles

X509: Final = "x509"
JWT: Final = "jwt"
WIT: Final = "wit"
"""The kinds of authorities, as the table has them."""
_UINT64: Final = 2**64


def signed(number: int) -> int:
    """A sequence number, which has 64 bits, as a column holds it: those from 2⁶³ on are negative there."""
    return number - _UINT64 if number >= _UINT64 // 2 else number


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
    return await insert_bundle(scope, connection, scope.trust_domain), True


async def insert_bundle(scope: Scope, connection: AsyncConnection, trust_domain: TrustDomain) -> int:
    """Make an empty bundle; its row."""
    now = scope.now()
    values = {
        "name": trust_domain.name,
        "sequence_number": 0,
        "refresh_hint": 0,
        "created_at": now,
        "updated_at": now,
        "revision": secrets.randbits(62),  # one that was deleted and made again never looks like the one before
    }
    made = await connection.execute(scope.insert(bundles, values).returning(bundles.c.id))
    return int(made.scalar_one())


async def touch(scope: Scope, connection: AsyncConnection, bundle_id: int) -> None:
    """Count a change of the own bundle."""
    await write_bundle(scope, connection, bundle_id, {"sequence_number": bundles.c.sequence_number + 1})


async def write_bundle(scope: Scope, connection: AsyncConnection, bundle_id: int, values: Mapping[str, object]) -> None:
    """Change a bundle's row, and note that it, or its authorities, changed."""
    changed = scope.update(bundles).where(bundles.c.id == bundle_id)
    await connection.execute(changed.values(revision=bundles.c.revision + 1, updated_at=scope.now(), **values))


async def load(scope: Scope, connection: AsyncConnection, trust_domain: TrustDomain) -> PublishedBundle | None:
    """A bundle with its marks."""
    row = (await connection.execute(scope.select(bundles).where(bundles.c.name == trust_domain.name))).first()
    return None if row is None else await published_of(scope, connection, row)


async def published_of(scope: Scope, connection: AsyncConnection, row: Row[Any]) -> PublishedBundle:
    """The bundle of a row, with its marks."""
    query = scope.select(bundle_authorities).where(bundle_authorities.c.bundle_id == row.id)
    authorities = (await connection.execute(query.order_by(bundle_authorities.c.id))).all()
    certificates = [(x509.load_der_x509_certificate(each.data), each.tainted) for each in _of(authorities, X509)]
    keys = [each for each in authorities if each.kind in (JWT, WIT)]
    bundle = TrustBundle(
        TrustDomain(row.name),
        x509_authorities=tuple(certificate for certificate, _ in certificates),
        jwt_authorities={each.key_id: _public_key(each.data) for each in _of(authorities, JWT)},
        wit_authorities={each.key_id: _public_key(each.data) for each in _of(authorities, WIT)},
        sequence_number=row.sequence_number % _UINT64,
        refresh_hint=timedelta(seconds=row.refresh_hint) if row.refresh_hint else None,
    )
    tainted = TaintedAuthorities(
        tuple(certificate for certificate, tainted in certificates if tainted),
        frozenset(each.key_id for each in _of(authorities, JWT) if each.tainted),
        frozenset(each.key_id for each in _of(authorities, WIT) if each.tainted),
    )
    return PublishedBundle(bundle, tainted, MappingProxyType({each.key_id: each.not_after for each in keys}))


async def put_bundle(
    scope: Scope, connection: AsyncConnection, new: PublishedBundle, fields: BundleFields = ALL_FIELDS
) -> PublishedBundle:
    """Write a bundle of another trust domain, or the parts of it that `fields` names; what it is then.

    Raises:
        InvalidArgument: a key stands in it under two key IDs.
    """
    bundle = new.bundle
    bundle_id = await find_bundle(scope, connection, bundle.trust_domain)
    if bundle_id is None:
        bundle_id = await insert_bundle(scope, connection, bundle.trust_domain)
    kinds = {X509: fields.x509_authorities, JWT: fields.jwt_authorities, WIT: fields.wit_authorities}
    replaced = [kind for kind, wanted in kinds.items() if wanted]
    gone = scope.delete(bundle_authorities).where(
        bundle_authorities.c.bundle_id == bundle_id, bundle_authorities.c.kind.in_(replaced)
    )
    await connection.execute(gone)
    rows = list({each.fingerprint(SHA256()): x509_row(bundle_id, each) for each in bundle.x509_authorities}.values())
    rows += [_key_row(bundle_id, kind.value, key_id, data, new.key_expiry) for kind, key_id, data in keys_of(bundle)]
    rows = [row for row in rows if row["kind"] in replaced]
    if len({(row["kind"], row["data"]) for row in rows}) < len(rows):
        raise InvalidArgument("a key is in the bundle under two key IDs")
    await scope.insert_all(connection, bundle_authorities, rows)
    values: dict[str, object] = {}
    if fields.sequence_number:
        values["sequence_number"] = signed(bundle.sequence_number or 0)
    if fields.refresh_hint:
        values["refresh_hint"] = int(bundle.refresh_hint.total_seconds()) if bundle.refresh_hint else 0
    await write_bundle(scope, connection, bundle_id, values)
    found = await load(scope, connection, bundle.trust_domain)
    assert found is not None, "it was written in this transaction"
    return found


def x509_row(bundle_id: int, certificate: x509.Certificate) -> dict[str, object]:
    """An X.509 authority of a bundle, named by its subject key identifier."""
    return {
        "bundle_id": bundle_id,
        "kind": X509,
        "key_id": x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest.hex(),
        "data": certificate.public_bytes(Encoding.DER),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "tainted": False,
    }


def keys_of(bundle: TrustBundle) -> list[tuple[AuthorityKind, str, bytes]]:
    """The token keys of a bundle: what they sign, their key ID, and their SubjectPublicKeyInfo (DER)."""
    keys = [(AuthorityKind.JWT, *each) for each in bundle.jwt_authorities.items()]
    keys += [(AuthorityKind.WIT, *each) for each in bundle.wit_authorities.items()]
    form = PublicFormat.SubjectPublicKeyInfo
    return [(kind, key_id, key.public_bytes(Encoding.DER, form)) for kind, key_id, key in keys]


def _key_row(bundle_id: int, kind: str, key_id: str, data: bytes, expiry: Mapping[str, int]) -> dict[str, object]:
    return {
        "bundle_id": bundle_id,
        "kind": kind,
        "key_id": key_id,
        "data": data,
        "not_after": expiry.get(key_id, 0),
        "tainted": False,
    }


def _of(authorities: Any, kind: str) -> list[Row[Any]]:
    return [each for each in authorities if each.kind == kind]


def _public_key(data: bytes) -> JWTPublicKey:
    return cast("JWTPublicKey", load_der_public_key(data))  # the bundle's constructor looks at its kind
