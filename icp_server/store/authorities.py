"""The own bundle's authorities one by one in SQL: token keys published and pruned, authorities tainted and revoked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from icp_server.domain.authorities import TAINT_TEXTS, AuthorityKind
from icp_server.domain.errors import Internal, InvalidArgument
from icp_server.store.bundle_rows import JWT, WIT, find_bundle, own_bundle, touch
from icp_server.store.scope import Scope
from icp_server.store.tables import bundle_authorities


class SQLAuthorityStore:
    """Implements the `AuthorityStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def append_key(self, kind: AuthorityKind, key_id: str, public_key: bytes, not_after: int) -> None:
        """Add a token key to the own bundle."""

        async def work(connection: AsyncConnection) -> None:
            bundle_id, made = await own_bundle(self._scope, connection)
            added = await insert_key(self._scope, connection, bundle_id, kind, key_id, public_key, not_after)
            if added and not made:
                await touch(self._scope, connection, bundle_id)

        await self._scope.write(work)

    async def prune_keys(self, expired_before: datetime) -> bool:
        """Remove the token keys that ended before; whether there were any. A key that never ends (0) stays."""

        async def work(connection: AsyncConnection) -> bool:
            bundle_id = await find_bundle(self._scope, connection, self._scope.trust_domain)
            if bundle_id is None:
                return False
            gone = self._scope.delete(bundle_authorities).where(
                bundle_authorities.c.bundle_id == bundle_id,
                bundle_authorities.c.kind.in_((JWT, WIT)),
                bundle_authorities.c.not_after < int(expired_before.timestamp()),
                bundle_authorities.c.not_after > 0,
            )
            if not (await connection.execute(gone)).rowcount:
                return False
            await touch(self._scope, connection, bundle_id)
            return True

        return await self._scope.write(work)

    async def taint(self, kind: AuthorityKind, authority_id: str) -> None:
        """Mark an authority as tainted."""

        async def work(connection: AsyncConnection) -> None:
            row = await self._find(connection, kind, authority_id)
            texts = TAINT_TEXTS[kind]
            if row is None:
                raise Internal(texts.unknown_to_taint)
            if row.tainted:
                raise Internal(texts.already_tainted)
            changed = self._scope.update(bundle_authorities).where(bundle_authorities.c.id == row.id)
            await connection.execute(changed.values(tainted=True))
            await touch(self._scope, connection, row.bundle_id)

        await self._scope.write(work)

    async def revoke(self, kind: AuthorityKind, authority_id: str) -> None:
        """Remove a tainted authority."""

        async def work(connection: AsyncConnection) -> None:
            row = await self._find(connection, kind, authority_id)
            texts = TAINT_TEXTS[kind]
            if row is None:
                raise Internal(texts.unknown_to_revoke)
            if not row.tainted:
                raise Internal(texts.untainted)
            await connection.execute(self._scope.delete(bundle_authorities).where(bundle_authorities.c.id == row.id))
            await touch(self._scope, connection, row.bundle_id)

        await self._scope.write(work)

    async def _find(
        self, connection: AsyncConnection, kind: AuthorityKind, authority_id: str
    ) -> Row[tuple[object, ...]] | None:
        bundle_id = await find_bundle(self._scope, connection, self._scope.trust_domain)
        query = self._scope.select(bundle_authorities).where(
            bundle_authorities.c.bundle_id == bundle_id,
            bundle_authorities.c.kind == kind.value,
            bundle_authorities.c.key_id == authority_id,
        )
        row: Row[Any] | None = (await connection.execute(query)).first()
        return row


async def insert_key(
    scope: Scope,
    connection: AsyncConnection,
    bundle_id: int,
    kind: AuthorityKind,
    key_id: str,
    public_key: bytes,
    not_after: int,
) -> bool:
    """Add a token key to a bundle; whether it was not there.

    Raises:
        InvalidArgument: the key ID stands for another authority already, or the key has another key ID.
    """
    query = scope.select(bundle_authorities).where(
        bundle_authorities.c.bundle_id == bundle_id,
        bundle_authorities.c.kind.in_((JWT, WIT)),
        or_(
            bundle_authorities.c.key_id == key_id,
            and_(bundle_authorities.c.kind == kind.value, bundle_authorities.c.data == public_key),
        ),
    )
    known = (await connection.execute(query)).first()
    if known is not None:
        if known.key_id != key_id:
            raise InvalidArgument(f"the key of {key_id!r} is published under another key ID already")
        if known.kind != kind.value or known.data != public_key:
            raise InvalidArgument(f"key ID {key_id!r} stands for another authority already")
        return False
    values = {
        "bundle_id": bundle_id,
        "kind": kind.value,
        "key_id": key_id,
        "data": public_key,
        "not_after": not_after,
        "tainted": False,
    }
    await connection.execute(scope.insert(bundle_authorities, values))
    return True
