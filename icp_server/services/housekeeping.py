"""Removes what has expired: entries past their own expiry, join tokens nobody used, records of ended certificates."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from icp_server.domain.errors import ServiceError
from icp_server.ports import Clock, Store

logger = logging.getLogger(__name__)

EVERY = timedelta(minutes=1)


class Housekeeping:
    """A data-management matter and not one of security: what has expired is refused wherever it is met."""

    def __init__(self, store: Store, clock: Clock, *, every: timedelta = EVERY) -> None:
        self._store = store
        self._clock = clock
        self._every = every

    async def run(self) -> None:
        """Prune for ever. A round that fails is logged, and the next one tries again."""
        while True:
            await asyncio.sleep(self._every.total_seconds())
            try:
                await self.step()
            except ServiceError as error:
                logger.warning("Failed to prune error=%s", error.message)

    async def step(self) -> None:
        """Prune once.

        Raises:
            Internal: the database failed.
        """
        now = self._clock()
        if count := await self._store.entries.prune_expired(now):
            logger.info("Pruned expired registration entries count=%s", count)
        await self._store.join_tokens.prune(now)
        await self._store.issuance.prune(now)
