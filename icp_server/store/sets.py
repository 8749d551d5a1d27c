"""How a filter's set meets a record's, as one clause of SQL, with indexes behind it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, func

from icp_server.domain.errors import InvalidArgument
from icp_server.domain.filters import Match, SelectorMatch
from icp_server.store.scope import Scope

MAX_SET = 1_000
"""Most members of a set in a filter: each is a parameter of the statement."""


def matching(
    scope: Scope,
    table: Table,
    key: ColumnElement[int],
    owners: ColumnElement[int],
    members: ColumnElement[Any],
    wanted: Collection[str] | Select[Any],
    size: int,
    match: Match,
) -> ColumnElement[bool]:
    """The records whose ``key`` owns members that meet the wanted set. A record without members meets none.

    ``owners`` and ``members`` are columns of the table; ``size`` is that of the wanted set, of whose members a query
    in its place may find fewer.

    Raises:
        InvalidArgument: the set is too large.
    """
    if size > MAX_SET:
        raise InvalidArgument(f"a filter's set has at most {MAX_SET} members, not {size}")
    having_any = scope.select(table, owners).where(members.in_(wanted))
    having_all = having_any.group_by(owners).having(func.count() == size)
    having_other = scope.select(table, owners, by_row=True).where(owners == key, members.not_in(wanted)).exists()
    match match:
        case Match.ANY:
            return key.in_(having_any)
        case Match.SUPERSET:
            return key.in_(having_all)
        case Match.SUBSET:
            return and_(key.in_(having_any), ~having_other)
        case Match.EXACT:
            return and_(key.in_(having_all), ~having_other)


def matching_selectors(
    scope: Scope, table: Table, key: ColumnElement[int], owners: ColumnElement[int], wanted: SelectorMatch
) -> ColumnElement[bool]:
    """`matching` for a table of selectors.

    Raises:
        InvalidArgument: the set is too large.
    """
    members = [str(selector) for selector in wanted.selectors]
    return matching(scope, table, key, owners, table.c.selector, members, len(members), wanted.match)
