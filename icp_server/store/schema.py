"""The schema's version: brought up from wherever it is, refused if a newer release wrote it."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from icp_server.domain.errors import SchemaTooNewError, SchemaTooOldError

logger = logging.getLogger(__name__)

REVISIONS = ("0001", "0002", "0003", "0004")
"""Every schema this release knows, oldest first; one file each in ``migrations/versions``."""

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = "alembic_version"


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, within the transaction that is open on the connection.

    Of servers that share a database and start at once, one migrates while the others wait for it.

    Raises:
        SchemaTooNewError: the database is at a revision this release does not know.
    """
    found = current(connection)
    if found == REVISIONS[-1]:
        return
    if connection.dialect.name == "postgresql":
        _lock(connection)
        found = current(connection)
    _refuse_newer(found)
    if found != REVISIONS[-1]:
        _run(connection, found, REVISIONS[-1])


def upgrade_to(connection: Connection, revision: str) -> None:
    """Make the schema of an earlier release, which is what upgrades are tested from."""
    _run(connection, current(connection), revision)


def check(connection: Connection) -> None:
    """Refuse a schema that is not this release's; nothing is changed.

    Raises:
        SchemaTooNewError, SchemaTooOldError: it is not.
    """
    found = current(connection)
    _refuse_newer(found)
    if found != REVISIONS[-1]:
        raise SchemaTooOldError(
            f"the database has {'no schema' if found is None else f'schema {found}'}, this release needs "
            f"{REVISIONS[-1]}, and disable_migration is on: run `icp-server db migrate`"
        )


def current(connection: Connection) -> str | None:
    """The revision the database is at; None for an empty one."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in REVISIONS:
        raise SchemaTooNewError(
            f"the database has schema {found}, this release knows {REVISIONS[0]} to {REVISIONS[-1]}: "
            "start the release that wrote it, or a newer one"
        )


def _lock(connection: Connection) -> None:
    """Wait for whoever else migrates. A table's lock and no advisory one: that, any role could hold for ever."""
    # Two servers may both find no table: then the statement of one fails, as `made_meanwhile` tells.
    connection.execute(
        text(f"CREATE TABLE IF NOT EXISTS {_VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(text(f"LOCK TABLE {_VERSION_TABLE} IN ACCESS EXCLUSIVE MODE"))


def made_meanwhile(error: DBAPIError) -> bool:
    """Whether `upgrade` failed for nothing but another server's being at it: to be tried once more."""
    return getattr(error.orig, "sqlstate", None) in ("23505", "42P07")


def _run(connection: Connection, found: str | None, wanted: str) -> None:
    # Alembic is imported only when there is something to do: it costs memory a server otherwise never uses.
    from alembic import command
    from alembic.config import Config

    logger.info("Migrating the database from=%s to=%s", found or "empty", wanted)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, wanted)
