"""Wakes a follower when another server wrote: PostgreSQL's notifications, which only say that it is worth a look.

Whoever may connect to the database can send them, so nothing is believed of one but that it came, and however many
come, the follower looks no more often than every few milliseconds. One that is lost costs the poll's pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final, Never

from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.store.postgres import DRIVER_FAILURES, Connection, connect

logger = logging.getLogger(__name__)

GAP: Final = 0.01
"""Shortest time between two looks."""
_CHECK_EVERY: Final = 10.0
_RETRY: Final = 1.0


class PostgresWakes:
    """Listens on a connection of its own, and makes another when that is lost. Who calls `wait` owns `run`."""

    def __init__(self, settings: PostgresSettings, channel: str) -> None:
        self._settings = settings
        self._channel = channel
        self._news = asyncio.Event()
        self._listening = False

    async def run(self) -> Never:
        """Listen for ever."""
        while True:
            connection: Connection | None = None
            try:
                connection = await connect(self._settings)
                await self._listen(connection)
            except DRIVER_FAILURES as error:
                if self._listening or connection is not None:
                    logger.warning("Notifications of the database ended, polling meanwhile error=%s", error)
                self._listening = False
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(_RETRY)

    async def wait(self, seconds: float) -> None:
        """Return after a notification, or when the time is over."""
        await asyncio.sleep(GAP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    def wake(self) -> None:
        """Let who waits look at once."""
        self._news.set()

    async def _listen(self, connection: Connection) -> None:
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        await connection.add_listener(self._channel, lambda *_: self._news.set())
        self._listening = True
        self._news.set()  # what was told before this connection listened, nobody heard
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY):
                    await ended.wait()
            if not ended.is_set():
                await connection.execute("SELECT 1")  # a connection can be dead for long without a sign of it
