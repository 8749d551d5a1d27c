"""How far a reader has followed a trust domain's changes: a position, and the life of the database it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authsec_sdk.spiffe import SpiffeID


@dataclass(frozen=True, slots=True)
class Revision:
    """Positions count the transactions that changed something, in the order they were committed.

    A database that was put back from a copy begins another epoch: a position of the former one says nothing about it,
    although the numbers come again.
    """

    epoch: str
    position: int

    def covers(self, other: Revision) -> bool:
        """Whether a reader that is here has seen what happened up to the other."""
        return self.epoch == other.epoch and self.position >= other.position

    def __str__(self) -> str:
        return f"{self.epoch}:{self.position}"


@dataclass(frozen=True, slots=True)
class Changes:
    """What became different after a revision; names alone, to be read again."""

    revision: Revision
    complete: bool
    """True: the log does not reach back so far. Everything may be different."""
    entries: frozenset[str] = frozenset()
    agents: frozenset[SpiffeID] = frozenset()
    bundles: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Every bundle there is, with a number that each write of it changes."""
