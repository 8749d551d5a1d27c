"""SQLite behind the store: one file that belongs to one process, reads on snapshots, one writer at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from icp_server.domain.errors import DatabaseInUseError, StoreError

BUSY_TIMEOUT_MS = 10_000
WRITES = "icp_writes"
"""The execution option that says a transaction is going to write."""


def own(path: Path) -> int:
    """Take the lock that says whose the file is, and make the file private before anything is in it.

    Raises:
        DatabaseInUseError: another process has it.
        StoreError: the file cannot be made or opened.
    """
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot use the database {path}: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except BlockingIOError as error:
        os.close(lock)
        raise DatabaseInUseError(f"another server process works on the database {path}: stop it first") from error
    except OSError as error:
        os.close(lock)
        raise StoreError(f"cannot use the database {path}: {error}") from error
    return lock


def sqlite_engine(path: Path) -> AsyncEngine:
    """Open connections to a file that is there.

    Never made here: a file that vanished under a running server is an error, and not an empty database.
    """
    url = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query={"mode": "rw", "uri": "true"})
    engine = create_async_engine(url, pool_size=4, max_overflow=4)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver must not begin transactions by itself: it would begin them only at the first write, too late for
        # what was read before to still hold.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
