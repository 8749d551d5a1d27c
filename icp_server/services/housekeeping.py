"""Removes what has expired: entries past their own expiry, join tokens nobody used, records of ended certificates."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from icp_server.domain.errors import ServiceError
from icp_server.ports import Clock, Store

logger = logging.getLogger(__name__)

EVERY = timedelta(minutes=1)
MOST_PASSED = 5
"""Rounds in a row left to another server."""


class Housekeeping:
    """A data-management matter and not one of security: what has expired is refused wherever it is met."""

    def __init__(self, store: Store, clock: Clock, *, every: timedelta = EVERY) -> None:
        self._store = store
        self._clock = clock
        self._every = every
        self._passed = 0

    async def run(self) -> None:
        """Prune for ever. A round that fails is logged, and the next one tries again."""
        while True:
            await asyncio.sleep(self._every.total_seconds())
            try:
                await self.step()
            except ServiceError as error:
                logger.warning("Failed to prune error=%s", error.message)

    async def step(self) -> None:
        """Prune, unless another server is at it. Nobody can keep us from it for ever by holding the lock.

        Raises:
            Unavailable, Internal: the database failed.
        """
        async with self._store.turn("housekeeping") as mine:
            if not mine and self._passed < MOST_PASSED:
                self._passed += 1
                return
            self._passed = 0
            await self._prune()

    async def _prune(self) -> None:
        now = self._clock()
        if count := await self._store.entries.prune_expired(now):
            logger.info("Pruned expired registration entries count=%s", count)
        await self._store.join_tokens.prune(now)
        await self._store.issuance.prune(now)
