"""PostgreSQL behind the store: connections as the settings say, timeouts on everything, and what its errors mean.

A server that is paused in the middle of a transaction loses it (`idle_in_transaction_session_timeout`), so that what it
had locked is free for the others; a statement, and the wait for a lock, end after a while whoever is slow.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from icp_server.domain.errors import Internal, InvalidArgument, ServiceError, Unavailable
from icp_server.domain.postgres_settings import PostgresSettings, TLSMode

logger = logging.getLogger(__name__)

STATEMENT_SECONDS: Final = 15
_URL: Final = "postgresql+asyncpg://"  # the rest is said by the connection's own arguments
_SESSION: Final = {
    "statement_timeout": str(STATEMENT_SECONDS * 1000),
    "lock_timeout": str((STATEMENT_SECONDS - 5) * 1000),
    "idle_in_transaction_session_timeout": str(STATEMENT_SECONDS * 1000),
    "timezone": "UTC",
}
_LOST: Final = ("08", "57P", "53")
"""Classes of states that pass: no connection, a server that stops or starts, no room for another connection."""
_PASSING: Final = frozenset({"25006", "25P03", "40001", "40P01", "55P03", "57014"})
_NO_TEXT: Final = "22021"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class DatabaseLostError(Exception):
    """No connection can be had; the text says why, without secrets."""


DRIVER_FAILURES: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseLostError)
"""What the driver raises beside, or below, SQLAlchemy's own errors."""


async def connect(settings: PostgresSettings, *, patient: bool = False) -> Connection:
    """Open one connection. A patient one has no timeouts on its statements.

    Raises:
        DatabaseLostError: it cannot be had.
    """
    session = {"application_name": settings.application_name, **({"timezone": "UTC"} if patient else _SESSION)}
    try:
        return await asyncpg.connect(
            host=[host for host, _ in settings.hosts],
            port=[port for _, port in settings.hosts],
            user=settings.user,
            # Empty, not None: what the configuration does not say, the environment must not.
            password=settings.password or (None if settings.password_file else ""),
            passfile=str(settings.password_file) if settings.password_file else "/dev/null",
            database=settings.database,
            timeout=settings.connect_timeout,
            command_timeout=None if patient else STATEMENT_SECONDS + 1,
            ssl=tls_context(settings),
            target_session_attrs=asyncpg.connect_utils.SessionAttribute.read_write if len(settings.hosts) > 1 else None,
            server_settings=session,
        )
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseLostError(f"cannot connect to {settings}: {error or type(error).__name__}") from error


def tls_context(settings: PostgresSettings) -> ssl.SSLContext | str | bool:
    """What libpq's sslmode means, with the files as they are now.

    Raises:
        OSError: a file cannot be read.
    """
    tls = settings.tls
    if tls.mode is TLSMode.DISABLE:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As libpq: with `require` the chain is verified if there is a root to verify it with, the name only if asked to.
    context.check_hostname = tls.mode is TLSMode.VERIFY_FULL
    verifies = tls.root_ca is not None and tls.mode not in (TLSMode.ALLOW, TLSMode.PREFER)
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    if verifies and tls.root_ca is not None:
        context.load_verify_locations(cafile=str(tls.root_ca))
    if tls.certificate is not None and tls.key is not None:
        context.load_cert_chain(str(tls.certificate), str(tls.key))
    return context


def postgres_engine(settings: PostgresSettings) -> AsyncEngine:
    """The pool every read and write takes its connection from."""
    pool = settings.pool
    lifetime = pool.max_lifetime.total_seconds() if pool.max_lifetime else 0.0
    # Two more connections are not the pool's: one listens, one holds locks.
    most = pool.max_open - 2
    return create_async_engine(
        _URL,
        async_creator=_creator(settings, patient=False),
        pool_size=max(1, min(pool.max_idle, most)),
        max_overflow=max(0, most - max(1, min(pool.max_idle, most))),
        pool_timeout=STATEMENT_SECONDS,
        pool_recycle=int(lifetime) or -1,
        pool_pre_ping=True,
    )


def migrating_engine(settings: PostgresSettings) -> AsyncEngine:
    """For the schema's own work, which may take its time."""
    return create_async_engine(_URL, async_creator=_creator(settings, patient=True), poolclass=NullPool)


def _creator(settings: PostgresSettings, *, patient: bool) -> Callable[..., Awaitable[Any]]:
    # The arguments SQLAlchemy would hand to the driver are not used: there is nothing in the URL.
    async def create(*_: object, **__: object) -> Connection:
        return await connect(settings, patient=patient)

    return create


def failure(error: BaseException) -> ServiceError:
    """What a failed statement is to a caller: worth trying again, the caller's own, or a defect of ours."""
    if isinstance(error, PoolTimeoutError):
        return Unavailable("datastore: every connection to the database is in use")
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(cause, "sqlstate", None) or ""
    if state == _NO_TEXT:
        return InvalidArgument("a text has a zero byte")
    if isinstance(cause, DatabaseLostError):
        return Unavailable(f"datastore: {cause}")
    lost = state.startswith(_LOST) or state in _PASSING
    if isinstance(error, DBAPIError) and (error.connection_invalidated or lost):
        return Unavailable(f"datastore: the database does not answer: {_words(cause)}")
    if lost or isinstance(cause, (OSError, TimeoutError, asyncpg.InterfaceError)):
        return Unavailable(f"datastore: the database does not answer: {_words(cause)}")
    return Internal(f"datastore: {_words(cause)}")


def _words(cause: BaseException | None) -> str:
    """What the database said, without the driver's class in front, and without the statement's parameters."""
    original = cause.__cause__ if isinstance(cause, Exception) and cause.__cause__ is not None else cause
    said = getattr(original, "message", None) or str(original)
    return str(said).partition("\n")[0] or type(original).__name__


async def openness(connection: AsyncConnection) -> tuple[str, ...]:
    """Why the database is not this server's own: what any role of the same PostgreSQL could do to it."""
    row = (
        await connection.execute(
            text(
                "SELECT current_database() AS name,"
                " has_database_privilege('public', current_database(), 'CONNECT') AS connects,"
                " has_schema_privilege('public', current_schema(), 'CREATE') AS creates,"
                " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS super"
            )
        )
    ).one()
    found = []
    if row.connects:
        found.append(
            f"any role may connect to the database {row.name}, hold its locks and send its notifications: "
            f'REVOKE CONNECT, TEMPORARY ON DATABASE "{row.name}" FROM PUBLIC'
        )
    if row.creates:
        found.append(
            f"any role may make functions and tables in the schema of the database {row.name}: "
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )
    if row.super:
        found.append(f"this server is a superuser of PostgreSQL: give it a role that owns the database {row.name}")
    return tuple(found)
