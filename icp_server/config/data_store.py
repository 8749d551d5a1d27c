"""The `DataStore "sql"` plugin's settings: a SQLite file, or a PostgreSQL database and how to reach it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from authsec_sdk.hcl import Fields
from icp_server.config.connection_string import ConnectionStringError, parse_connection_string
from icp_server.config.model import DataStore
from icp_server.domain.postgres_settings import PostgresPool, PostgresSettings, PostgresTLS, TLSMode

_POOL: Final = ("max_open_conns", "max_idle_conns", "conn_max_lifetime")
_TLS: Final = {"root_ca_path": "sslrootcert", "client_cert_path": "sslcert", "client_key_path": "sslkey"}


def read_data_store(data: Fields, notes: list[str]) -> DataStore | PostgresSettings:
    """Read the plugin's data; what an operator should know is added to `notes`.

    Raises:
        ConfigurationError: a setting is missing, wrong, or not honoured.
    """
    kind = data.text("database_type")
    if not kind:
        raise data.error(f"database_type in {data.where} must be set")
    if kind not in ("sqlite3", "postgres"):
        known = kind in ("mysql", "aws_postgres", "aws_mysql")
        problem = "is not supported yet" if known else "is unknown"
        raise data.error(f"database_type {kind!r} {problem} (supported: sqlite3, postgres)", "database_type")
    text = data.text("connection_string")
    if not text:
        raise data.error(f"connection_string in {data.where} must be set")
    migrate = not data.boolean("disable_migration")
    if kind == "postgres":
        return replace(_postgres(data, text, notes), migrate=migrate)
    notes.extend(
        f"{data.where}.{name}: has no effect with SQLite, which has one writer" for name in _POOL if data.has(name)
    )
    for name in _TLS:
        if data.text(name):
            raise data.error(f"{data.where}.{name} has no meaning for a SQLite file", name)
    return DataStore(_sqlite_path(data, text), migrate)


def _postgres(data: Fields, text: str, notes: list[str]) -> PostgresSettings:
    try:
        settings = parse_connection_string(text)
    except ConnectionStringError as error:
        # Not the text itself: it may hold a password, and messages are logged.
        raise data.error(f"{data.where}.connection_string {error}", "connection_string") from None
    said = settings.tls
    tls = PostgresTLS(
        said.mode,
        _file(data, "root_ca_path", said.root_ca),
        _file(data, "client_cert_path", said.certificate),
        _file(data, "client_key_path", said.key),
    )
    if (tls.certificate is None) != (tls.key is None):
        raise data.error(f"{data.where} names a client certificate or its key, and not the other", "connection_string")
    verifies = tls.mode in (TLSMode.VERIFY_CA, TLSMode.VERIFY_FULL)
    if verifies and tls.root_ca is None:
        raise data.error(f"sslmode={tls.mode.value} needs root_ca_path, or sslrootcert", "connection_string")
    if tls.mode is not TLSMode.VERIFY_FULL and not settings.is_local:
        notes.append(
            f"{data.where}.connection_string: sslmode={tls.mode.value} lets whoever is in between be the database; "
            "use verify-full"
        )
    return replace(settings, tls=tls, pool=_pool(data))


def _file(data: Fields, name: str, said: Path | None) -> Path | None:
    path = data.text(name)
    if path and said is not None:
        raise data.error(f"{data.where}.{name} and {_TLS[name]} in connection_string say the same", name)
    return Path(path) if path else said


def _pool(data: Fields) -> PostgresPool:
    pool = PostgresPool()
    opened, idle = data.integer("max_open_conns"), data.integer("max_idle_conns")
    for name, number, least in (("max_open_conns", opened, 3), ("max_idle_conns", idle, 0)):
        if number is not None and number < least:
            raise data.error(f"{data.where}.{name} must be at least {least}", name)
    most = pool.max_open if opened is None else opened
    return PostgresPool(most, min(pool.max_idle if idle is None else idle, most), data.duration("conn_max_lifetime"))


def _sqlite_path(data: Fields, text: str) -> Path:
    """Read a file name or a `file:` URI (https://sqlite.org/uri.html) without parameters."""
    if text == ":memory:" or "mode=memory" in text:
        raise data.error("a database in memory is not supported yet: name a file", "connection_string")
    if not text.startswith("file:"):
        return Path(text)
    location, question, query = text.removeprefix("file:").partition("?")
    if question and query:
        raise data.error(f"SQLite parameters ({query}) are not supported yet: name the file alone", "connection_string")
    if location.startswith("//"):
        authority, slash, rest = location[2:].partition("/")
        if authority not in ("", "localhost") or not slash:
            raise data.error(f"{text!r} names no file of this machine", "connection_string")
        location = f"/{rest}"
    return Path(unquote(location))
