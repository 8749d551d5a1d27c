"""The entries in memory, as fresh as the last committed change, and each agent's share of them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.authorized_entries import EntryIndex
from icp_server.domain.errors import Unavailable
from icp_server.domain.revision import Revision
from icp_server.ports import Clock, Store

logger = logging.getLogger(__name__)

MAX_SHARES = 10_000
"""Agents whose share is kept between calls; those that called longest ago go first."""


@dataclass(frozen=True, slots=True)
class _Share:
    generation: int
    selectors: tuple[Selector, ...]
    good_until: float
    entries: Mapping[str, RegistrationEntry]


class EntryCache:
    """Follows the store's change log. Between changes a question costs no query.

    A question after a change of this process sees the change; one of another server, as soon as somebody calls
    `refresh`. While the database is away, questions are answered from what is known.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._index = EntryIndex(store.trust_domain)
        self._revision: Revision | None = None
        self._generation = 0
        self._behind = False
        self._shares: OrderedDict[SpiffeID, _Share] = OrderedDict()
        self._updating = asyncio.Lock()

    @property
    def revision(self) -> Revision | None:
        """What the index has followed to; None before the first question."""
        return self._revision

    async def authorized(self, agent: Agent) -> Mapping[str, RegistrationEntry]:
        """The unexpired entries the agent may serve, by id and in the order of their ids."""
        index = await self._fresh()
        now = self._clock().timestamp()
        share = self._shares.get(agent.id)
        if (
            share is None
            or share.generation != self._generation
            or share.selectors != agent.selectors
            or now >= share.good_until
        ):
            entries = index.authorized(agent.id, agent.selectors, now)
            ends = [entry.expires_at for entry in entries if entry.expires_at]
            by_id = MappingProxyType({entry.id: entry for entry in entries})
            share = _Share(self._generation, agent.selectors, min(ends, default=float("inf")), by_id)
            self._shares[agent.id] = share
            if len(self._shares) > MAX_SHARES:
                self._shares.popitem(last=False)
        self._shares.move_to_end(agent.id)
        return share.entries

    async def with_spiffe_id(self, spiffe_id: SpiffeID) -> tuple[RegistrationEntry, ...]:
        """The entries, expired ones too, that give a workload this ID."""
        return (await self._fresh()).with_spiffe_id(spiffe_id)

    async def refresh(self) -> None:
        """Follow the log to its end, whoever wrote to it.

        Raises:
            Unavailable, Internal: the database cannot be asked; what is known stays.
        """
        async with self._updating:
            await self._follow()

    async def reconcile(self) -> int:
        """Hold the index against the table, and read everything anew if they differ; how many entries did.

        The log is right by construction; this is what is behind it, should that ever not hold.

        Raises:
            Unavailable, Internal: the database cannot be asked.
        """
        async with self._updating:
            await self._follow()
            at, there = await self._store.entries.inventory()
            if at != self._revision:  # somebody wrote in between: the next round looks again
                return 0
            here = {(entry.id, entry.revision_number, entry.created_at) for entry in self._index}
            different = {entry[0] for entry in here ^ there}
            if different:
                logger.error(
                    "The index of entries was not what the database has, reading it anew count=%d", len(different)
                )
                self._revision = None
                await self._follow()
            return len(different)

    async def _fresh(self) -> EntryIndex:
        if self._is_fresh() or (self._behind and self._revision is not None):
            return self._index
        async with self._updating:
            if not self._is_fresh():
                try:
                    await self._follow()
                except Unavailable as error:
                    if self._revision is None:
                        raise
                    # Until somebody's refresh succeeds: no caller waits for a database that is away.
                    self._behind = True
                    logger.warning("Answering from the entries that are known error=%s", error.message)
        return self._index

    def _is_fresh(self) -> bool:
        return self._revision is not None and self._revision.covers(self._store.entries.revision())

    async def _follow(self) -> None:
        delta = await self._store.entries.changes_since(self._revision)
        # From here on no await: nobody sees an index with half of the changes.
        if delta.complete:
            self._index = EntryIndex(self._store.trust_domain, delta.changed)
        else:
            for entry_id in delta.removed:
                self._index.remove(entry_id)
            for entry in delta.changed:
                self._index.put(entry)
        if delta.complete or delta.removed or delta.changed:
            self._generation += 1
        self._revision = delta.revision
        self._behind = False
