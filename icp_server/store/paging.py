"""Pages of a listing: the token is the row the last page ended with, as text, as in SPIRE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from icp_server.domain.errors import Internal
from icp_server.domain.results import PageRequest

_MAX_ROW = 2**63 - 1


def start_of(page: PageRequest) -> int:
    """The row after which the page begins.

    Raises:
        Internal: the token is none of ours (upstream answers this kind for it).
    """
    if not page.size or not page.token:
        return 0
    if page.token.isascii() and page.token.isdigit() and len(page.token) < 20 and int(page.token) <= _MAX_ROW:
        return int(page.token)
    raise Internal(f"could not parse token '{page.token[:64]}'")


def next_token(page: PageRequest, rows: Sequence[Row[Any]]) -> str:
    """The token of what follows these rows; none once a page was empty."""
    return str(rows[-1].id) if page.size and rows else ""
