"""Whose turn it is, of several servers: PostgreSQL's advisory locks, which order work and protect nothing.

Whoever may connect can hold such a lock, and who held it may be paused and lose it without knowing. So what is done in
turn must be right out of turn too: pruning is repeatable, and a CA's journal is written by compare-and-swap.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.store.postgres import DRIVER_FAILURES, Connection, connect

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 0.1


def lock_key(trust_domain_row: int, name: str) -> int:
    """The number PostgreSQL knows the lock by."""
    digest = hashlib.sha256(f"icp {trust_domain_row} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@asynccontextmanager
async def turn(settings: PostgresSettings, key: int, patience: float) -> AsyncIterator[bool]:
    """Wait so long for one's turn, and give it back at the end; whether it came.

    It does not come while another has it, or the database is away. The lock ends with its connection.
    """
    connection: Connection | None = None
    mine = False
    try:
        try:
            connection = await connect(settings)
            mine = await _taken(connection, key, patience)
        except DRIVER_FAILURES as error:
            logger.debug("No turn to be had error=%s", error)
        yield mine
    finally:
        if connection is not None:
            connection.terminate()  # ends the lock too, and cannot hang


async def _taken(connection: Connection, key: int, patience: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY)
    return True
