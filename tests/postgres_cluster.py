"""A PostgreSQL server of the tests' own: `from tests.postgres_cluster import Cluster, binary`."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

PATIENCE = 60.0
_numbers = itertools.count(1)


def binary(name: str) -> str | None:
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")  # where Debian keeps them, off PATH
    versions = sorted(installed, key=lambda path: float(path.parts[4]))
    return str(versions[-1]) if versions else shutil.which(name)


def owner() -> tuple[int, int]:
    """Whose the server is to be: PostgreSQL refuses to be root's."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    names = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


class Cluster:
    """A server in a (short) folder; roles `admin` (superuser), `spire`, `stranger`, let in without passwords.

    It can be stopped, started and frozen at any time. Each database belongs to `spire`, and to nobody else.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.folder, self.data = folder, folder / "data"
        self.uid, self.gid = owner()
        self._durable = durable
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[Cluster]:
        os.chown(self.folder, self.uid, self.gid)
        initdb = [str(binary("initdb")), "-D", str(self.data), "-U", "admin", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run([*initdb, "--locale=C"], check=True, capture_output=True, cwd=self.folder, **self._as_owner())
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses='127.0.0.1'\nport={self.port}\nunix_socket_directories='{self.folder}'\n"
                f"fsync={'on' if self._durable else 'off'}\nmax_connections=100\n"
            )
        self.start()
        try:
            with self.admin() as admin:
                for role in ("spire", "stranger"):
                    admin.execute(f"CREATE ROLE {role} LOGIN")
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [str(binary("postgres")), "-D", str(self.data)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as_owner())
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.admin().close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)

    def stop(self) -> None:
        """End it at once (connections too), as an immediate shutdown or a crash does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)

    def admin(self, database: str = "postgres", user: str = "admin") -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self.folder), port=self.port, user=user, dbname=database, autocommit=True)

    def sql(self, statement: str, database: str = "postgres", user: str = "admin") -> list[tuple[Any, ...]]:
        with self.admin(database, user) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template0") -> str:
        """Make a database that belongs to `spire` alone."""
        name = f"t{next(_numbers)}"
        with self.admin() as admin:
            admin.execute(f"CREATE DATABASE {name} OWNER spire TEMPLATE {template}".encode())
            admin.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC".encode())
        return name

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def connection_string(self, database: str) -> str:
        return f"postgresql://spire@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def serve_tls(self, certificate: bytes, key: bytes, client_root: bytes) -> None:
        """Let nobody in over TCP but over TLS, with a certificate that names its role; to be called before `start`."""
        for name, content in (("server.crt", certificate), ("server.key", key), ("root.crt", client_root)):
            (self.data / name).write_bytes(content)
            (self.data / name).chmod(0o600)
            os.chown(self.data / name, self.uid, self.gid)
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("ssl=on\nssl_ca_file='root.crt'\n")
        (self.data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 cert\n")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _as_owner(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}
