"""Entries as rows and back: one entry is a row, its selectors and the bundles it federates with."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, and_
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.errors import Internal
from icp_server.domain.filters import EntryFilter, FederatesWithMatch, Match, SelectorMatch
from icp_server.store.scope import Scope
from icp_server.store.sets import matching, matching_selectors
from icp_server.store.tables import bundles, entries, entry_federates_with, entry_selectors

T = TypeVar("T")

CHUNK = 500
"""Rows whose parts are read with one statement."""

_SAME_NAME = (
    "x509_svid_ttl",
    "jwt_svid_ttl",
    "admin",
    "downstream",
    "expires_at",
    "store_svid",
    "hint",
    "disable_x509_svid_prefetch",
    "jwt_svid_include_jti",
    "revision_number",
    "created_at",
)


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, a statement's worth at a time."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def selector_digest(selectors: Iterable[Selector]) -> bytes:
    """Equal exactly if the sets are: each member's length is digested before it."""
    digest = hashlib.sha256()
    for text in sorted({str(selector) for selector in selectors}):
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.digest()


def columns_of(entry: RegistrationEntry) -> dict[str, object]:
    """What of an entry is in its own row."""
    return {
        "entry_id": entry.id,
        "spiffe_id": str(entry.spiffe_id),
        "parent_id": str(entry.parent_id),
        "selector_digest": selector_digest(entry.selectors),
        "dns_names": list(entry.dns_names),
        **{name: getattr(entry, name) for name in _SAME_NAME},
    }


async def bundle_ids(scope: Scope, connection: AsyncConnection, trust_domains: Sequence[TrustDomain]) -> list[int]:
    """The rows of the bundles to federate with.

    Raises:
        Internal: there is none for one of them (the kind upstream answers).
    """
    found = []
    for trust_domain in dict.fromkeys(trust_domains):
        query = scope.select(bundles, bundles.c.id).where(bundles.c.name == trust_domain.name)
        row_id = (await connection.execute(query)).scalar()
        if row_id is None:
            raise Internal(f'unable to find federated bundle "{trust_domain.id}"')
        found.append(row_id)
    return found


async def write_parts(
    scope: Scope, connection: AsyncConnection, row_id: int, entry: RegistrationEntry, federates_with: Sequence[int]
) -> None:
    """Write what an entry has beside its own row; there must be nothing yet."""
    selectors: list[dict[str, object]] = [{"entry_row_id": row_id, "selector": str(each)} for each in entry.selectors]
    await scope.insert_all(connection, entry_selectors, selectors)
    federated: list[dict[str, object]] = [{"entry_row_id": row_id, "bundle_id": each} for each in federates_with]
    await scope.insert_all(connection, entry_federates_with, federated)


async def load(
    scope: Scope, connection: AsyncConnection, *clauses: ColumnElement[bool]
) -> list[tuple[int, RegistrationEntry]]:
    """Entries with their row ids, in the order they were created."""
    query = scope.select(entries).where(*clauses).order_by(entries.c.id)
    rows = (await connection.execute(query)).all()
    return list(zip((row.id for row in rows), await hydrate(scope, connection, rows), strict=True))


async def hydrate(scope: Scope, connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[RegistrationEntry]:
    """The entries of rows, in their order."""
    made: list[RegistrationEntry] = []
    for chunk in chunks(rows):
        owners = [row.id for row in chunk]
        selectors: defaultdict[int, list[Selector]] = defaultdict(list)
        owner, text = entry_selectors.c.entry_row_id, entry_selectors.c.selector
        query = (
            scope.select(entry_selectors, owner, text, by_row=True)
            .where(owner.in_(owners))
            .order_by(entry_selectors.c.id)
        )
        for row_id, selector in await connection.execute(query):
            selectors[row_id].append(Selector.parse(selector))
        federated: defaultdict[int, list[TrustDomain]] = defaultdict(list)
        owner = entry_federates_with.c.entry_row_id
        query = scope.select(entry_federates_with, owner, bundles.c.name, by_row=True).where(owner.in_(owners))
        query = query.join(
            bundles, and_(bundles.c.id == entry_federates_with.c.bundle_id, scope.where(bundles, by_row=True))
        )
        query = query.order_by(entry_federates_with.c.id)
        for row_id, name in await connection.execute(query):
            federated[row_id].append(TrustDomain(name))
        made += [_entry(row, tuple(selectors[row.id]), tuple(federated[row.id])) for row in chunk]
    return made


def select_filtered(scope: Scope, filter_: EntryFilter, *columns: ColumnElement[Any]) -> Select[Any]:
    """Select the columns (or all) of the entries a filter lets through."""
    by_row = filter_.federates_with is not None or not (filter_.selectors is None or _is_exact(filter_.selectors))
    return scope.select(entries, *columns, by_row=by_row).where(*_clauses(scope, filter_))


def _is_exact(wanted: SelectorMatch) -> bool:
    return wanted.match is Match.EXACT


def _clauses(scope: Scope, filter_: EntryFilter) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if filter_.spiffe_id is not None:
        clauses.append(entries.c.spiffe_id == str(filter_.spiffe_id))
    if filter_.parent_id is not None:
        clauses.append(entries.c.parent_id == str(filter_.parent_id))
    if filter_.selectors is not None:
        clauses.append(_selectors(scope, filter_.selectors))
    if filter_.federates_with is not None:
        clauses.append(_federates(scope, filter_.federates_with))
    if filter_.hint:
        clauses.append(entries.c.hint == filter_.hint)
    if filter_.downstream:
        clauses.append(entries.c.downstream.is_(True))
    return clauses


def _selectors(scope: Scope, wanted: SelectorMatch) -> ColumnElement[bool]:
    if _is_exact(wanted):
        return entries.c.selector_digest == selector_digest(wanted.selectors)
    return matching_selectors(scope, entry_selectors, entries.c.id, entry_selectors.c.entry_row_id, wanted)


def _federates(scope: Scope, wanted: FederatesWithMatch) -> ColumnElement[bool]:
    names = [trust_domain.name for trust_domain in wanted.trust_domains]
    known = scope.select(bundles, bundles.c.id).where(bundles.c.name.in_(names))
    owner, member = entry_federates_with.c.entry_row_id, entry_federates_with.c.bundle_id
    return matching(scope, entry_federates_with, entries.c.id, owner, member, known, len(names), wanted.match)


def _entry(
    row: Row[Any], selectors: tuple[Selector, ...], federates_with: tuple[TrustDomain, ...]
) -> RegistrationEntry:
    return RegistrationEntry(
        id=row.entry_id,
        spiffe_id=SpiffeID.parse(row.spiffe_id),
        parent_id=SpiffeID.parse(row.parent_id),
        selectors=selectors,
        federates_with=federates_with,
        dns_names=tuple(row.dns_names),
        **{name: getattr(row, name) for name in _SAME_NAME},
    )
