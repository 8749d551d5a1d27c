"""Registration entries: create, change, find, and which of them an agent may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import EntryChanges, RegistrationEntry
from icp_server.domain.agent import Agent
from icp_server.domain.filters import EntryFilter
from icp_server.domain.results import ItemResult, Page, PageRequest
from icp_server.ports import Clock, Store


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may do beyond its identity."""

    admin: bool = False
    downstream: bool = False


class EntryService:
    """The Entry API's use cases over one trust domain."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, entries: Sequence[RegistrationEntry]) -> list[ItemResult[RegistrationEntry]]:
        """Create each entry; beside AlreadyExists stands the entry that is there.

        Values come back with DNS names and selectors sorted, as upstream's replies have them.
        """
        raise NotImplementedError

    async def update(self, changes: Sequence[EntryChanges]) -> list[ItemResult[RegistrationEntry]]:
        """Change each entry, found by its id; what a change leaves None stays as it is."""
        raise NotImplementedError

    async def delete(self, ids: Sequence[str]) -> list[ItemResult[str]]:
        """Delete each entry; ``value`` is its id, also beside an error."""
        raise NotImplementedError

    async def get(self, entry_id: str) -> RegistrationEntry:
        """One entry.

        Raises:
            InvalidArgument: the id is empty.
            NotFound: there is no such entry.
        """
        raise NotImplementedError

    async def list(self, filter_: EntryFilter, page: PageRequest) -> Page[RegistrationEntry]:
        """Entries that pass the filter, in the order they were created.

        Raises:
            InvalidArgument: a filter's set is empty.
            Internal: the page token is none of ours (upstream's code for it).
        """
        raise NotImplementedError

    async def count(self, filter_: EntryFilter) -> int:
        """How many entries pass the filter.

        Raises:
            InvalidArgument: a filter's set is empty.
        """
        raise NotImplementedError

    async def authorized(self, agent: Agent) -> tuple[RegistrationEntry, ...]:
        """The entries this agent may serve, sorted by id: one consistent snapshot."""
        raise NotImplementedError

    async def rights(self, spiffe_id: SpiffeID, serial_number: str) -> Rights:
        """What the holder of this certificate may do: it must have been issued here, and an entry must say so now."""
        raise NotImplementedError
