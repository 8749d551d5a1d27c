"""The answer to one item of a batch, and one page of a listing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from icp_server.domain.errors import ServiceError

T = TypeVar("T")

MAX_BATCH = 500
"""Most items of one signing call (SPIRE's limiter has the same burst; more is refused as a whole)."""


@dataclass(frozen=True, slots=True)
class ItemResult(Generic[T]):
    """What became of one item: ``error`` is None when it succeeded.

    ``value`` may stand beside an error: the existing entry beside AlreadyExists, the id beside a failed deletion.
    """

    value: T | None = None
    error: ServiceError | None = None

    @property
    def ok(self) -> bool:
        """Whether the item succeeded."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a listing: ``size`` 0 asks for everything at once; ``token`` '' starts at the beginning."""

    size: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items in stable order and the token of what follows; '' ends the listing (one empty last page is normal)."""

    items: tuple[T, ...]
    next_token: str = ""
