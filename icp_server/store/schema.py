"""The schema's version: brought up from wherever it is, refused if a newer release wrote it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from icp_server.domain.errors import SchemaTooNewError

REVISIONS = ("0001",)
"""Every schema this release knows, oldest first; one file each in ``migrations/versions``."""

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = "alembic_version"


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, within the transaction that is open on the connection.

    Alembic is imported only when there is something to do: it costs memory a server otherwise never uses.

    Raises:
        SchemaTooNewError: the database is at a revision this release does not know.
    """
    current = _current(connection)
    if current == REVISIONS[-1]:
        return
    if current is not None and current not in REVISIONS:
        raise SchemaTooNewError(
            f"the database has schema {current}, this release knows {REVISIONS[0]} to {REVISIONS[-1]}: "
            "start the release that wrote it, or a newer one"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, REVISIONS[-1])


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)
