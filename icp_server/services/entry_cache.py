"""The entries in memory, as fresh as the last committed change, and each agent's share of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.authorized_entries import EntryIndex
from icp_server.ports import Clock, Store

MAX_SHARES = 10_000
"""Agents whose share is kept between calls; those that called longest ago go first."""


@dataclass(frozen=True, slots=True)
class _Share:
    position: int
    selectors: tuple[Selector, ...]
    good_until: float
    entries: Mapping[str, RegistrationEntry]


class EntryCache:
    """Follows the store's change log. A question after a change sees the change; between changes it costs no query."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._index = EntryIndex(store.trust_domain)
        self._position = -1
        self._shares: OrderedDict[SpiffeID, _Share] = OrderedDict()
        self._updating = asyncio.Lock()

    async def authorized(self, agent: Agent) -> Mapping[str, RegistrationEntry]:
        """The unexpired entries the agent may serve, by id and in the order of their ids."""
        index = await self._fresh()
        now = self._clock().timestamp()
        share = self._shares.get(agent.id)
        if (
            share is None
            or share.position != self._position
            or share.selectors != agent.selectors
            or now >= share.good_until
        ):
            entries = index.authorized(agent.id, agent.selectors, now)
            ends = [entry.expires_at for entry in entries if entry.expires_at]
            by_id = MappingProxyType({entry.id: entry for entry in entries})
            share = _Share(self._position, agent.selectors, min(ends, default=float("inf")), by_id)
            self._shares[agent.id] = share
            if len(self._shares) > MAX_SHARES:
                self._shares.popitem(last=False)
        self._shares.move_to_end(agent.id)
        return share.entries

    async def with_spiffe_id(self, spiffe_id: SpiffeID) -> tuple[RegistrationEntry, ...]:
        """The entries, expired ones too, that give a workload this ID."""
        return (await self._fresh()).with_spiffe_id(spiffe_id)

    async def _fresh(self) -> EntryIndex:
        if self._position == self._store.entries.position():
            return self._index
        async with self._updating:
            if self._position != self._store.entries.position():
                delta = await self._store.entries.changes_since(self._position)
                # From here on no await: nobody sees an index with half of the changes.
                if delta.complete:
                    self._index = EntryIndex(self._store.trust_domain, delta.changed)
                else:
                    for entry_id in delta.removed:
                        self._index.remove(entry_id)
                    for entry in delta.changed:
                        self._index.put(entry)
                self._position = delta.position
        return self._index
