"""What a trust domain has, as one file: a line a row, a header that says of what, a digest that says it is whole.

The file holds no private key and no join token's text, but who may have which identity: it is made for its owner alone.
It is the same for SQLite and PostgreSQL, so it also moves a trust domain from one to the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from icp_server.domain.errors import StoreError
from icp_server.store import tables
from icp_server.store.schema import REVISIONS
from icp_server.store.scope import Scope

Progress: TypeAlias = Callable[[int], None]
"""Told how many rows are done, now and then."""

FORMAT: Final = "icp-server backup 1"
TABLES: Final[Mapping[str, Table]] = {
    table.name: table
    for table in (
        tables.bundles,
        tables.bundle_authorities,
        tables.federation_relationships,
        tables.entries,
        tables.entry_selectors,
        tables.entry_federates_with,
        tables.agents,
        tables.agent_selectors,
        tables.spent_join_tokens,
        tables.ca_journals,
        tables.privileged_svids,
    )
}
"""What is written down, in an order in which it can be put back."""
PAGE: Final = 500
_LONGEST_LINE: Final = 16 * 1024 * 1024


class BackupError(StoreError):
    """A file that is no backup, or not a whole one, or not of this trust domain or release."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup is of."""

    trust_domain: str
    schema: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its table and columns, with the number it had."""

    table: Table
    number: int
    values: dict[str, Any]


async def write_backup(scope: Scope, path: Path, made_at: datetime, progress: Progress) -> int:
    """Write everything to a new file; how many rows. One snapshot, while servers work.

    Raises:
        BackupError: there is such a file already, or it cannot be written.
        Internal, Unavailable: the database failed.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                count = await _write(scope, file, made_at, progress)
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, path)  # unlike a rename, never over another backup
        finally:
            partial.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):
            os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise BackupError(f"cannot write the backup {path}: {error.strerror or error}") from error
    return count


async def _write(scope: Scope, file: BinaryIO, made_at: datetime, progress: Progress) -> int:
    digest = hashlib.sha256()

    def put(document: Mapping[str, object]) -> None:
        line = json.dumps(document, separators=(",", ":"), sort_keys=True).encode() + b"\n"
        digest.update(line)
        file.write(line)

    header = {"format": FORMAT, "trust_domain": scope.trust_domain.name, "schema": REVISIONS[-1]}
    put({**header, "made_at": int(made_at.timestamp())})
    count = 0
    async with scope.read() as connection:
        # A token that waits is written down as spent by nobody: it joins nobody after a restore, nor does its text.
        for table in (*TABLES.values(), tables.join_tokens):
            async for row in _rows(scope, connection, table):
                put(_document(table, row))
                count += 1
                if count % PAGE == 0:
                    progress(count)
    file.write(json.dumps({"rows": count, "sha256": digest.hexdigest()}).encode() + b"\n")
    return count


async def _rows(scope: Scope, connection: AsyncConnection, table: Table) -> Any:
    last = 0
    while True:
        query = scope.select(table).where(table.c.id > last).order_by(table.c.id).limit(PAGE)
        rows = (await connection.execute(query)).mappings().all()
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        last = rows[-1]["id"]


def _document(table: Table, row: Mapping[str, Any]) -> dict[str, object]:
    values = {name: _encoded(value) for name, value in row.items() if name not in ("id", "trust_domain_id")}
    if table is tables.join_tokens:
        return {"table": tables.spent_join_tokens.name, "id": 0, "row": {**values, "key_digest": None}}
    if table is tables.spent_join_tokens:
        values["key_digest"] = None  # whoever spent it may not ask again
    return {"table": table.name, "id": row["id"], "row": values}


def _encoded(value: object) -> object:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


# --- reading ----------------------------------------------------------------------------------------------------------


def read_header(path: Path) -> Header:
    """Check that a file is a whole backup, and say of what.

    Raises:
        BackupError: it is not.
    """
    digest = hashlib.sha256()
    count = -1
    last = b""
    try:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_LINE)
            previous = first
            for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
                digest.update(previous)
                count += 1
                previous = line
            last = previous if count >= 0 else b""
    except OSError as error:
        raise BackupError(f"cannot read the backup {path}: {error.strerror or error}") from error
    try:
        header, footer = json.loads(first), json.loads(last)
        if header["format"] != FORMAT:
            raise BackupError(f"{path} is a backup of another format: {str(header['format'])[:40]!r}")
        whole = footer["sha256"] == digest.hexdigest() and footer["rows"] == count
        made_at = datetime.fromtimestamp(header["made_at"], UTC)
        found = Header(str(header["trust_domain"]), str(header["schema"]), made_at)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BackupError(f"{path} is no backup, or its end is missing") from None
    if not whole:
        raise BackupError(f"{path} is not as it was written: its digest is another one")
    return found


def read_lines(path: Path) -> Iterator[Line]:
    """The rows of a backup whose header was read.

    Raises:
        BackupError: a row is none of this release's.
    """
    with path.open("rb") as file:
        file.readline(_LONGEST_LINE)
        for number, text in enumerate(file, start=2):
            document = json.loads(text)
            if "sha256" in document:
                return
            try:
                yield _line(document)
            except (ValueError, KeyError, TypeError, binascii.Error) as error:
                raise BackupError(f"{path}:{number}: no row of this release: {type(error).__name__}") from error


def _line(document: Mapping[str, Any]) -> Line:
    table = TABLES[document["table"]]
    values = {name: _decoded(value) for name, value in document["row"].items()}
    if set(values) != {column.name for column in table.columns} - {"id", "trust_domain_id"}:
        raise ValueError("other columns")
    return Line(table, int(document["id"]), values)


def _decoded(value: object) -> object:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value
