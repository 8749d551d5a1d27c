"""The database behind all stores: one SQLite file, one process, writes one after the other.

Reads run beside each other on snapshots (WAL). A write takes the write lock from its first statement, so what it read
is still so when it commits; it survives power loss once it returned (synchronous FULL); and once begun it ends, even
if who asked for it is cancelled meanwhile: nobody is left not knowing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from authsec_sdk.errors import CallerError
from icp_server.domain.errors import DatabaseInUseError, Internal, StoreError
from icp_server.store import schema

logger = logging.getLogger(__name__)

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
_WRITES = "icp_writes"
_FAILURES = (SQLAlchemyError, CallerError, ValueError)
"""The database's own errors, and those of our values when a row that somebody else wrote does not make one."""


class Database:
    """An open database file. Made by `open`; `close` ends it."""

    def __init__(self, engine: AsyncEngine, lock: int) -> None:
        self._engine = engine
        self._lock = lock
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open a SQLite file, or make it, and bring its schema up to this release.

        Raises:
            DatabaseInUseError: another process works on it.
            SchemaTooNewError: a newer release wrote it.
            StoreError: it is not a database, or cannot be opened or written.
        """
        lock = await asyncio.to_thread(_own, path)
        engine = _sqlite_engine(path)
        database = cls(engine, lock)
        try:
            async with engine.connect() as connection:
                writing = await connection.execution_options(**{_WRITES: True})
                async with writing.begin():
                    await writing.run_sync(schema.upgrade)
        except SQLAlchemyError as error:
            await database.close()
            raise StoreError(f"cannot use the database {path}: {_reason(error)}") from error
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close every connection and give the file free. May be called again."""
        async with self._writing:
            await self._engine.dispose()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A read transaction: one consistent snapshot.

        Raises:
            Internal: the database failed.
        """
        try:
            async with self._engine.connect() as connection, connection.begin():
                yield connection
        except _FAILURES as error:
            raise Internal(f"datastore: {_reason(error)}") from error

    async def write(
        self, work: Callable[[AsyncConnection], Awaitable[T]], committed: Callable[[T], None] | None = None
    ) -> T:
        """Run `work` in a write transaction: all of it, or nothing if it raises. Cancelling only stops the waiting.

        ``committed`` gets the result as soon as it is safe, before anybody else writes.

        Raises:
            Internal: the database failed.
            Exception: whatever `work` raises.
        """
        task = asyncio.ensure_future(self._write(work, committed))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                logger.warning("A write whose caller had gone failed", exc_info=task.exception())
            raise

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]], committed: Callable[[T], None] | None) -> T:
        try:
            async with self._writing, self._engine.connect() as connection:
                writing = await connection.execution_options(**{_WRITES: True})
                async with writing.begin():
                    result = await work(writing)
                if committed is not None:
                    committed(result)
                return result
        except _FAILURES as error:
            raise Internal(f"datastore: {_reason(error)}") from error


def _own(path: Path) -> int:
    """Take the lock that says whose the file is, and make the file private before anything is in it."""
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


def _sqlite_engine(path: Path) -> AsyncEngine:
    # Never made here: a file that vanished under a running server is an error, and not an empty database.
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
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _reason(error: Exception) -> str:
    """What the database said, without the statement and its parameters; what a row holds, only the log may tell."""
    if isinstance(error, DBAPIError):
        return str(error.orig)
    return type(error).__name__ if isinstance(error, SQLAlchemyError) else "a row is malformed"
