"""Holds one block of the file against its schema: what is unknown, not built yet, or moot is said here once."""

from __future__ import annotations

from authsec_sdk.hcl import Fields
from icp_server.config.schema import Key, Kind, Schema


def open_section(fields: Fields, schema: Schema, notes: list[str]) -> Fields:
    """Check every key of the block and return it for reading; what an operator should know is added to `notes`.

    Raises:
        ConfigurationError: a key is unknown (the nearest known one is named), of the wrong kind, or not built yet.
    """
    for name, key in schema.items():
        if not fields.has(name):
            continue
        if key.not_yet:
            _refuse(fields, name, key)
        elif key.moot:
            _read(fields, name, key.kind)
            notes.append(f"{_full_name(fields, name)}: {key.moot}")
    fields.finish()
    return fields


def _refuse(fields: Fields, name: str, key: Key) -> None:
    if key.harmless and _read(fields, name, key.kind) in key.harmless:
        return
    raise fields.error(
        f"{_full_name(fields, name)} is not supported yet: {key.not_yet}; remove it to run without", name
    )


def _full_name(fields: Fields, name: str) -> str:
    return f"{fields.where}.{name}" if fields.where else name


def _read(fields: Fields, name: str, kind: Kind) -> object:
    match kind:
        case Kind.TEXT:
            return fields.text(name)
        case Kind.INTEGER:
            return fields.integer(name)
        case Kind.BOOLEAN:
            return fields.boolean(name)
        case Kind.DURATION:
            return fields.duration(name)
        case Kind.TEXTS:
            return fields.texts(name)
        case Kind.BLOCK:
            return fields.bodies(name)
