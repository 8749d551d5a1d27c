"""The database behind all stores: a SQLite file of one process, or a PostgreSQL database that servers share.

Reads run beside each other on snapshots. What a write read is still so when it commits: on SQLite it has the write lock
from its first statement, on PostgreSQL the row of its trust domain (`Scope.write`). It survives power loss once it
returned; and once begun it ends, even if who asked for it is cancelled meanwhile: nobody is left not knowing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from authsec_sdk.errors import CallerError
from icp_server.domain.errors import Internal, ServiceError, StoreError
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.store import schema
from icp_server.store.sqlite import WRITES, own, sqlite_engine

logger = logging.getLogger(__name__)

T = TypeVar("T")

_READ_SHARED: Final = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


class Database:
    """An open database. Made by `open` (SQLite) or `connect` (PostgreSQL); `close` ends it."""

    def __init__(self, engine: AsyncEngine, lock: int = -1, settings: PostgresSettings | None = None) -> None:
        self._engine = engine
        self._lock = lock
        self._writing = asyncio.Lock()
        self.postgres = settings
        """How it was connected to, if it is PostgreSQL: other servers may then write it too."""
        self._read_options = {} if settings is None else _READ_SHARED
        self._write_options = {WRITES: True} if settings is None else {}
        self._failures: tuple[type[Exception], ...] = (SQLAlchemyError, CallerError, ValueError)
        if settings is not None:
            from icp_server.store import postgres

            self._failures += postgres.DRIVER_FAILURES

    @classmethod
    async def open(cls, path: Path, *, migrate: bool = True) -> Self:
        """Open a SQLite file, or make it, and bring its schema up to this release.

        Raises:
            DatabaseInUseError: another process works on it.
            SchemaTooNewError, SchemaTooOldError: it is not of this release.
            StoreError: it is not a database, or cannot be opened or written.
        """
        lock = await asyncio.to_thread(own, path)
        database = cls(sqlite_engine(path), lock)
        try:
            await database._migrate(database._engine, str(path), migrate=migrate)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def look(cls, path: Path) -> Self:
        """Open a SQLite file that a server may be working on, to read.

        Raises:
            SchemaTooNewError, SchemaTooOldError: it is not of this release.
            StoreError: it is not there, not a database, or cannot be opened.
        """
        if not await asyncio.to_thread(path.exists):
            raise StoreError(f"cannot use the database {path}: there is none")
        database = cls(sqlite_engine(path))
        try:
            await database._migrate(database._engine, str(path), migrate=False)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def connect(cls, settings: PostgresSettings) -> Self:
        """Connect to PostgreSQL and bring the schema up to this release. The driver is imported only here.

        Raises:
            SchemaTooNewError, SchemaTooOldError: it is not of this release.
            StoreError: it cannot be reached, or not used.
        """
        from icp_server.store import postgres

        database = cls(postgres.postgres_engine(settings), settings=settings)
        migrating = postgres.migrating_engine(settings)
        try:
            await database._migrate(migrating, str(settings), migrate=settings.migrate)
            async with database.read() as connection:
                for reason in await postgres.openness(connection):
                    logger.warning("The database is open to others: %s", reason)
        except ServiceError as error:
            await database.close()
            raise StoreError(f"cannot use the database {settings}: {error.message}") from error
        except BaseException:
            await database.close()
            raise
        finally:
            await migrating.dispose()
        return database

    async def _migrate(self, engine: AsyncEngine, name: str, *, migrate: bool) -> None:
        for again in (True, False):
            try:
                async with engine.connect() as connection:
                    writing = await connection.execution_options(**self._write_options)
                    async with writing.begin():
                        await writing.run_sync(schema.upgrade if migrate else schema.check)
                return
            except self._failures as error:
                # Of two servers that make the first table at once, one is told that it is there.
                if not (again and isinstance(error, DBAPIError) and schema.made_meanwhile(error)):
                    raise StoreError(f"cannot use the database {name}: {self.explain(error).message}") from error

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
            Unavailable: the database cannot be reached now.
            Internal: it failed.
        """
        try:
            async with self._engine.connect() as connection:
                reading = await connection.execution_options(**self._read_options)
                async with reading.begin():
                    yield reading
        except self._failures as error:
            raise self.explain(error) from error

    async def write(
        self, work: Callable[[AsyncConnection], Awaitable[T]], committed: Callable[[T], None] | None = None
    ) -> T:
        """Run `work` in a write transaction: all of it, or nothing if it raises. Cancelling only stops the waiting.

        ``committed`` gets the result as soon as it is safe, before anybody else of this process writes.

        Raises:
            Unavailable: the database cannot be reached now. Where the connection broke while committing, whether it
                did is not known.
            Internal: it failed.
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
                writing = await connection.execution_options(**self._write_options)
                async with writing.begin():
                    result = await work(writing)
                if committed is not None:
                    committed(result)
                return result
        except self._failures as error:
            raise self.explain(error) from error

    def explain(self, error: Exception) -> ServiceError:
        """What a failure is to a caller, without the statement and its parameters; what a row holds, the log tells."""
        if isinstance(error, (CallerError, ValueError)) and not isinstance(error, OSError):
            return Internal("datastore: a row is malformed")
        if self.postgres is not None:
            from icp_server.store import postgres

            return postgres.failure(error)
        return Internal(f"datastore: {error.orig if isinstance(error, DBAPIError) else type(error).__name__}")
