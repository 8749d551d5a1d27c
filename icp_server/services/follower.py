"""Follows what other servers write to a shared database, so that this one answers by it within milliseconds.

A notification wakes it, a poll stands behind the notifications, and a full comparison behind the log. While the
database is away this server goes on from what it knows, and says so once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Never, Protocol

from icp_server.domain.errors import ServiceError
from icp_server.domain.revision import Revision
from icp_server.ports import Clock, Store
from icp_server.services.entries import EntryService

logger = logging.getLogger(__name__)

POLL: Final = timedelta(seconds=1)
RECONCILE: Final = timedelta(minutes=5)


class Wakes(Protocol):
    """Says when it is worth looking."""

    async def run(self) -> Never:
        """Listen for ever."""

    async def wait(self, seconds: float) -> None:
        """Return when there may be something new, at the latest after this time."""


class Follower:
    """Owns nothing but its place in the log. `run` until cancelled, or `step` by hand."""

    def __init__(
        self,
        store: Store,
        entries: EntryService,
        wakes: Wakes,
        clock: Clock,
        *,
        on_bundles: Callable[[], Awaitable[object]],
        poll: timedelta = POLL,
        reconcile: timedelta = RECONCILE,
    ) -> None:
        self._store = store
        self._entries = entries
        self._wakes = wakes
        self._clock = clock
        self._on_bundles = on_bundles
        self._poll = poll
        self._reconcile = reconcile
        self._known: Revision | None = None
        self._bundles: dict[str, int] = {}
        self._reconciled_at: datetime | None = None
        self._away_since: datetime | None = None

    async def run(self) -> Never:
        """Follow for ever.

        Raises:
            BaseExceptionGroup: a defect.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wakes.run(), name="database notifications")
            while True:
                await self._wakes.wait(self._poll.total_seconds())
                await self.attempt()
        raise AssertionError("a loop without an end ended")

    async def attempt(self) -> bool:
        """`step`, with what an operator should know of its failure logged once; whether it succeeded."""
        try:
            await self.step()
        except ServiceError as error:
            if self._away_since is None:
                self._away_since = self._clock()
                logger.error("The database does not answer: going on from what is known error=%s", error.message)  # noqa: TRY400  (the text says it all)
            return False
        if self._away_since is not None:
            away = (self._clock() - self._away_since).total_seconds()
            logger.info("The database answers again seconds=%.0f", away)
            self._away_since = None
        return True

    async def step(self) -> None:
        """Take over what happened since the last time.

        Raises:
            ServiceError: the database cannot be asked; the next time begins where this one did.
        """
        changes = await self._store.changes_since(self._known)
        if changes.complete or changes.entries:
            await self._entries.refresh()
        if dict(changes.bundles) != self._bundles:
            await self._on_bundles()
            self._bundles = dict(changes.bundles)
        self._known = changes.revision
        now = self._clock()
        if self._reconciled_at is None or now - self._reconciled_at >= self._reconcile:
            await self._entries.reconcile()
            self._reconciled_at = now
