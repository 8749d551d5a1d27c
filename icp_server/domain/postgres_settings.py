"""Where a PostgreSQL database is and how to reach it: what a connection string says, as one value."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

DEFAULT_PORT: Final = 5432
MAX_OPEN: Final = 20
"""Connections of one server, unless it is told otherwise: several servers must fit into PostgreSQL's own hundred."""
MAX_IDLE: Final = 5


class TLSMode(enum.Enum):
    """How much of TLS is wanted; the words and their meaning are libpq's."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


@dataclass(frozen=True, slots=True)
class PostgresTLS:
    """TLS to the database. Files are read anew for each connection, so a renewed certificate needs no restart."""

    mode: TLSMode = TLSMode.PREFER
    root_ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class PostgresPool:
    """How many connections there may be, and for how long each."""

    max_open: int = MAX_OPEN
    max_idle: int = MAX_IDLE
    max_lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """A database of PostgreSQL. Of several hosts the first that answers and can be written is taken."""

    hosts: tuple[tuple[str, int], ...]
    """A host that begins with a slash is the folder of a Unix socket."""
    user: str
    database: str
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    tls: PostgresTLS = field(default_factory=PostgresTLS)
    pool: PostgresPool = field(default_factory=PostgresPool)
    connect_timeout: float = 10.0
    application_name: str = "icp-server"
    migrate: bool = True
    """Whether the schema is brought up to this release at start."""

    @property
    def is_local(self) -> bool:
        """Whether every host is this machine, reached by no network."""
        return all(host.startswith("/") or host in ("localhost", "127.0.0.1", "::1") for host, _ in self.hosts)

    def __str__(self) -> str:
        places = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.database} at {places} as {self.user}"
