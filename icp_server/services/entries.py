"""Registration entries: create, change, find, and which of them an agent may have."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import (
    EntryChanges,
    InvalidEntryError,
    RegistrationEntry,
    RepeatedDNSNameError,
    validate_new_entry,
)
from authsec_sdk.spire.selectors import BORROWABLE, only_borrowable
from icp_server.domain.agent import Agent
from icp_server.domain.errors import AlreadyExists, Internal, InvalidArgument, NotFound, ServiceError, Unavailable
from icp_server.domain.filters import EntryFilter
from icp_server.domain.results import ItemResult, Page, PageRequest
from icp_server.ports import Clock, Store
from icp_server.services.entry_cache import EntryCache

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may do beyond its identity."""

    admin: bool = False
    downstream: bool = False


class EntryService:
    """The Entry API's use cases over one trust domain."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        admin_ids: frozenset[SpiffeID] = frozenset(),
        require_strong_selectors: bool = False,
    ) -> None:
        self._store = store
        self._clock = clock
        self._admin_ids = admin_ids
        self._require_strong = require_strong_selectors
        self._cache = EntryCache(store, clock)

    async def create(self, entries: Sequence[RegistrationEntry]) -> list[ItemResult[RegistrationEntry]]:
        """Create each entry; beside AlreadyExists stands the entry that is there.

        Values come back with DNS names and selectors sorted, as upstream's replies have them. An entry of selectors
        that any process can borrow is warned of, or refused where strong ones are required.
        """
        valid: list[RegistrationEntry] = []
        refused: dict[int, ServiceError] = {}
        for place, entry in enumerate(entries):
            try:
                self._check(entry, "create")
            except ServiceError as error:
                refused[place] = error
            else:
                valid.append(entry if entry.id else replace(entry, id=str(uuid.uuid4())))
        written = iter(await self._store.entries.create(valid) if valid else [])
        results = [
            ItemResult(error=refused[place]) if place in refused else _reply(next(written), "create")
            for place in range(len(entries))
        ]
        _warn_of_borrowable(results)
        return results

    async def update(self, changes: Sequence[EntryChanges]) -> list[ItemResult[RegistrationEntry]]:
        """Change each entry, found by its id; what a change leaves None stays as it is. Checked as in `create`."""
        written = await self._store.entries.update(changes, lambda entry: self._check(entry, "update"))
        results = [_reply(result, "update") for result in written]
        _warn_of_borrowable(results)
        return results

    async def delete(self, ids: Sequence[str]) -> list[ItemResult[str]]:
        """Delete each entry; ``value`` is its id, also beside an error."""
        written = iter(await self._store.entries.delete([entry_id for entry_id in ids if entry_id]))
        return [
            next(written) if entry_id else ItemResult(entry_id, InvalidArgument("missing entry ID")) for entry_id in ids
        ]

    async def get(self, entry_id: str) -> RegistrationEntry:
        """One entry.

        Raises:
            InvalidArgument: the id is empty.
            NotFound: there is no such entry.
        """
        if not entry_id:
            raise InvalidArgument("missing ID")
        entry = await self._store.entries.get(entry_id)
        if entry is None:
            raise NotFound("entry not found")
        return entry

    async def list(self, filter_: EntryFilter, page: PageRequest) -> Page[RegistrationEntry]:
        """Entries that pass the filter, in the order they were created.

        Raises:
            InvalidArgument: a filter's set is empty or too large.
            Internal: the page token is none of ours (upstream's code for it).
        """
        _check_filter(filter_)
        try:
            return await self._store.entries.list(filter_, page)
        except Internal as error:
            raise Internal(f"failed to list entries: {error.message}") from error

    async def count(self, filter_: EntryFilter) -> int:
        """How many entries pass the filter.

        Raises:
            InvalidArgument: a filter's set is empty or too large.
        """
        _check_filter(filter_)
        return await self._store.entries.count(filter_)

    async def authorized(self, agent: Agent) -> tuple[RegistrationEntry, ...]:
        """The entries this agent may serve, sorted by id: one consistent snapshot."""
        return tuple((await self._cache.authorized(agent)).values())

    async def authorized_by_id(self, agent: Agent, wanted: Iterable[str] = ()) -> Mapping[str, RegistrationEntry]:
        """The same, by id; cannot be changed.

        ``wanted``: ids the agent asked for. One that is not there may have been created at another server a moment
        ago, so the database is asked before the answer is no.
        """
        found = await self._cache.authorized(agent)
        if self._store.shared and any(entry_id not in found for entry_id in wanted):
            with contextlib.suppress(Unavailable):
                await self._cache.refresh()
                found = await self._cache.authorized(agent)
        return found

    async def refresh(self) -> None:
        """Take over what other servers wrote.

        Raises:
            Unavailable, Internal: the database cannot be asked; what is known stays.
        """
        await self._cache.refresh()

    async def reconcile(self) -> int:
        """Hold what is known against the database; how many entries differed.

        Raises:
            Unavailable, Internal: the database cannot be asked.
        """
        return await self._cache.reconcile()

    async def rights(self, spiffe_id: SpiffeID, fingerprint: str) -> Rights:
        """What the holder of this certificate may do: it must have been issued here, and an entry must say so now."""
        rights = await self.rights_by_entries(spiffe_id)
        if not (rights.admin or rights.downstream) or await self._store.issuance.known(spiffe_id, fingerprint):
            return rights
        return Rights()

    async def rights_by_entries(self, spiffe_id: SpiffeID) -> Rights:
        """What entries or the list of administrators give this ID: whether a certificate deserves it is not checked."""
        now = self._clock().timestamp()
        entries = [entry for entry in await self._cache.with_spiffe_id(spiffe_id) if not entry.expired(now)]
        admin = spiffe_id in self._admin_ids or any(entry.admin for entry in entries)
        return Rights(admin, any(entry.downstream for entry in entries))

    def is_privileged(self, entry: RegistrationEntry) -> bool:
        """Whether the certificates of this entry carry rights of their own, and so go on record."""
        return entry.admin or entry.downstream or entry.spiffe_id in self._admin_ids

    def _check(self, entry: RegistrationEntry, verb: str) -> None:
        try:
            validate_new_entry(entry, self._store.trust_domain)
        except InvalidEntryError as error:
            raise _invalid(error, verb) from error
        if self._require_strong and only_borrowable(entry.selectors):
            raise InvalidArgument(f"failed to {verb} entry: require_strong_selectors is on: {BORROWABLE}")


def _warn_of_borrowable(results: Sequence[ItemResult[RegistrationEntry]]) -> None:
    for result in results:
        if result.ok and result.value is not None and only_borrowable(result.value.selectors):
            logger.warning("%s entry_id=%s spiffe_id=%s", BORROWABLE, result.value.id, result.value.spiffe_id)


def _invalid(error: InvalidEntryError, verb: str) -> ServiceError:
    if isinstance(error, RepeatedDNSNameError):
        return AlreadyExists(f"failed to {verb} entry: {error}")
    if error.found_by_store:
        return InvalidArgument(f"failed to {verb} entry: {error}")
    return InvalidArgument(f"failed to convert entry: {error}")


def _reply(result: ItemResult[RegistrationEntry], verb: str) -> ItemResult[RegistrationEntry]:
    if isinstance(result.error, Internal):
        return ItemResult(error=Internal(f"failed to {verb} entry: {result.error.message}"))
    if isinstance(result.error, NotFound):
        return ItemResult(error=NotFound(f"failed to {verb} entry"))  # upstream's words: which id, the caller knows
    if result.value is None or isinstance(result.error, AlreadyExists):
        return result
    entry = result.value
    return ItemResult(
        replace(entry, dns_names=tuple(sorted(entry.dns_names)), selectors=tuple(sorted(entry.selectors)))
    )


def _check_filter(filter_: EntryFilter) -> None:
    if filter_.selectors is not None and not filter_.selectors.selectors:
        raise InvalidArgument("malformed selectors filter: empty selector set")
    if filter_.federates_with is not None and not filter_.federates_with.trust_domains:
        raise InvalidArgument("malformed federates with filter: empty trust domain set")
