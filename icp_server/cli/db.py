"""`icp-server db`: migrate, check, back up and restore the database that a configuration names."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from authsec_sdk.errors import SpiffeError
from icp_common.flags import FlagSet, UsageError
from icp_server.config import Overrides, ServerConfig, load_config
from icp_server.config.model import DEFAULT_CONFIG_PATH
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.nodeattestors.registry import known_attestors

if TYPE_CHECKING:
    from icp_server.store.database import Database

_PROGRESS_EVERY: Final = 0.5


def migrate(arguments: Sequence[str]) -> int:
    """Bring the schema up to this release."""
    command = _DBCommand(
        "db migrate",
        summary="Brings the database's schema up to this release. A server does so when it starts, too.",
        examples=("-config server.conf",),
    )

    async def work(config: ServerConfig) -> int:
        from icp_server.store.schema import REVISIONS

        async with await _open(config, migrating=True):
            sys.stdout.write(f"The database has schema {REVISIONS[-1]}.\n")
        return 0

    return command.run(arguments, work)


def check(arguments: Sequence[str]) -> int:
    """Look whether everything in the database is whole; 1 if it is not."""
    command = _DBCommand(
        "db check",
        summary="Reads everything in the database and says what is wrong with it; servers may go on working.",
        examples=("-config server.conf",),
    )

    async def work(config: ServerConfig) -> int:
        from icp_server.store.check import problems
        from icp_server.store.scope import bind_known

        counted = _Counted("checked")
        async with await _open(config, reading=True) as database:
            scope = await bind_known(database, config.trust_domain, _now)
            found = await problems(scope, counted)
        counted.end()
        for problem in found:
            sys.stdout.write(f"{problem}\n")
        sys.stdout.write(f"{len(found)} problems found.\n" if found else "The database is whole.\n")
        return 1 if found else 0

    return command.run(arguments, work)


def backup(arguments: Sequence[str]) -> int:
    """Write a backup."""
    command = _DBCommand(
        "db backup",
        summary=(
            "Writes what the trust domain has to one file; servers may go on working. Keys are the key manager's and "
            "not in it."
        ),
        examples=("-config server.conf -file example.org.backup",),
    )
    file = command.flags.string("file", "The file to write, which must not be there yet")

    async def work(config: ServerConfig) -> int:
        from icp_server.store.backup import write_backup
        from icp_server.store.scope import bind_known

        path = Path(_required(command.flags, file.value))
        counted = _Counted("wrote")
        async with await _open(config, reading=True) as database:
            scope = await bind_known(database, config.trust_domain, _now)
            rows = await write_backup(scope, path, _now(), counted)
        counted.end()
        sys.stdout.write(f"Wrote {rows} rows to {path}.\n")
        return 0

    return command.run(arguments, work)


def restore(arguments: Sequence[str]) -> int:
    """Put a backup back."""
    command = _DBCommand(
        "db restore",
        summary=(
            "Puts a backup back. Join tokens are not restored. Agents, bans and authorities that the database has are "
            "newer than the backup's and stay."
        ),
        examples=("-config server.conf -file example.org.backup", "-config server.conf -file f.backup -replace"),
    )
    file = command.flags.string("file", "The file to read")
    replacing = command.flags.boolean("replace", "Replace the entries that are in the database")

    async def work(config: ServerConfig) -> int:
        from icp_server.store.restore import restore as put_back
        from icp_server.store.scope import bind

        path = Path(_required(command.flags, file.value))
        counted = _Counted("restored")
        async with await _open(config, migrating=True) as database:
            scope = await bind(database, config.trust_domain, _now)
            done = await put_back(scope, path, counted, replace=replacing.value)
        counted.end()
        sys.stdout.write(f"Restored {done.rows} rows of a backup from {done.made_at:%Y-%m-%d %H:%M:%S} UTC.\n")
        if done.everything:
            sys.stdout.write("Agents that were banned after it was made must be banned again.\n")
        else:
            sys.stdout.write("Agents, bans, tokens and authorities stayed as they were.\n")
        return 0

    return command.run(arguments, work)


async def _open(config: ServerConfig, *, reading: bool = False, migrating: bool = False) -> Database:
    from icp_server.store.database import Database

    place = config.plugins.data_store
    if isinstance(place, PostgresSettings):
        return await Database.connect(replace(place, migrate=migrating, application_name="icp-server db"))
    return await (Database.look(place.path) if reading else Database.open(place.path, migrate=migrating))


def _required(flags: FlagSet, value: str) -> str:
    if not value:
        raise flags.error("-file is required")
    return value


def _now() -> datetime:
    return datetime.now(UTC)


class _DBCommand:
    """The flags all of them have, and how their work is run."""

    def __init__(self, name: str, *, summary: str, examples: Sequence[str]) -> None:
        self.flags = FlagSet(name, summary=summary, examples=[f"icp-server {name} {each}" for each in examples])
        self._config = self.flags.string("config", f"Path to a SPIRE config file (default: {DEFAULT_CONFIG_PATH})")
        self._expand_env = self.flags.boolean("expandEnv", "Expand environment variables in SPIRE config file")

    def run(self, arguments: Sequence[str], work: Callable[[ServerConfig], Awaitable[int]]) -> int:
        """Parse, load the configuration, work; 1 with the reason if it cannot be done."""
        self.flags.parse(arguments)
        path = Path(self._config.value) if self._config.value else DEFAULT_CONFIG_PATH
        try:
            config = load_config(
                Overrides(config=path, expand_env=self._expand_env.value), os.environ, known_attestors()
            )
            return asyncio.run(_awaited(work(config)))
        except UsageError:
            raise
        except (SpiffeError, OSError) as error:
            sys.stderr.write(f"Error: {error}\n")
            return 1


async def _awaited(work: Awaitable[int]) -> int:
    return await work


class _Counted:
    """Says how far a long work is, on standard error, twice a second and only to somebody who watches."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._told = time.monotonic()
        self._shown = False

    def __call__(self, rows: int) -> None:
        now = time.monotonic()
        if now - self._told >= _PROGRESS_EVERY and sys.stderr.isatty():
            sys.stderr.write(f"\r{self._verb} {rows} rows")
            sys.stderr.flush()
            self._told, self._shown = now, True

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            sys.stderr.write("\n")
