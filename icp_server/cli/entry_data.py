"""Files of entries (`-data`, `-file`): JSON in the form SPIRE's commands read, each value checked for its type."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from authsec_sdk.errors import SpiffeError
from authsec_sdk.proto.spire import types_pb2
from icp_server.cli.api import CommandError
from icp_server.cli.ids import id_message
from icp_server.cli.numbers import int32

STDIN = "-"
_MAXIMUM_SIZE = 64 * 1024 * 1024


def read_entries(path: str) -> list[types_pb2.Entry]:
    """Read `{"entries": [...]}`.

    Raises:
        CommandError: the file is no such JSON; says in which entry and at which key.
        OSError: it cannot be read.
    """
    document = read_json(path)
    entries = object_of(document, {"entries": _list}, path).get("entries", [])
    return [_entry(entry, f"{path}: entry {number}") for number, entry in enumerate(entries, start=1)]


def read_ids(path: str) -> list[str]:
    """Read `{"ids": [...]}`, the entries to delete.

    Raises:
        CommandError: the file is no such JSON.
        OSError: it cannot be read.
    """
    ids = object_of(read_json(path), {"ids": _texts}, path).get("ids", [])
    return list(ids)


def read_json(path: str) -> Any:
    """Read a file of JSON, or standard input if `-` is named.

    Raises:
        CommandError: it is larger than any that is meant, or not JSON.
        OSError: it cannot be read.
    """
    if path == STDIN:
        data = sys.stdin.buffer.read(_MAXIMUM_SIZE + 1)
    else:
        with Path(path).open("rb") as file:
            data = file.read(_MAXIMUM_SIZE + 1)
    if len(data) > _MAXIMUM_SIZE:
        raise CommandError(f"{path} is larger than {_MAXIMUM_SIZE} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON: {error}") from error


def _entry(value: Any, where: str) -> types_pb2.Entry:
    fields = object_of(value, _ENTRY, where)
    selectors = [_selector(selector, where) for selector in fields.get("selectors", [])]
    attributes = object_of(fields.get("additional_attributes", {}), _ATTRIBUTES, f"{where}: additional_attributes")
    try:
        entry = types_pb2.Entry(
            id=fields.get("entry_id", ""),
            spiffe_id=_id(fields, "spiffe_id"),
            parent_id=_id(fields, "parent_id"),
            selectors=selectors,
            x509_svid_ttl=int32(fields.get("x509_svid_ttl", 0), "x509_svid_ttl"),
            jwt_svid_ttl=int32(fields.get("jwt_svid_ttl", 0), "jwt_svid_ttl"),
            federates_with=fields.get("federates_with", []),
            admin=fields.get("admin", False),
            downstream=fields.get("downstream", False),
            expires_at=fields.get("entryExpiry", 0),
            dns_names=fields.get("dns_names", []),
            revision_number=fields.get("revision_number", 0),
            store_svid=fields.get("store_svid", False),
            hint=fields.get("hint", ""),
            created_at=fields.get("created_at", 0),
        )
    except (SpiffeError, ValueError) as error:
        raise CommandError(f"{where}: {error}") from error
    if "additional_attributes" in fields:
        entry.additional_attributes.CopyFrom(types_pb2.Entry.AdditionalAttributes(**attributes))
    return entry


def _id(fields: Mapping[str, Any], key: str) -> types_pb2.SPIFFEID:
    try:
        return id_message(fields.get(key, ""))
    except SpiffeError as error:
        raise CommandError(f"{key}: {error}") from error


def _selector(value: Any, where: str) -> types_pb2.Selector:
    known = object_of(value, {"type": text_of, "value": text_of}, f"{where}: selectors")
    return types_pb2.Selector(type=known.get("type", ""), value=known.get("value", ""))


def object_of(value: Any, checks: Mapping[str, Callable[[Any], bool]], where: str) -> dict[str, Any]:
    """Check an object's keys (in any case, as Go reads them) and the types of their values; null is as good as absent.

    SPIRE drops keys it does not know; a misspelt `federates_with` would then be an entry without it, so they are
    refused here.
    """
    if not isinstance(value, dict):
        raise CommandError(f"{where}: must be an object, not {_name(value)}")
    names = {name.casefold(): name for name in checks}
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = names.get(key.casefold())
        if name is None:
            near = difflib.get_close_matches(key.casefold(), names, n=1)
            hint = f"; did you mean {names[near[0]]!r}?" if near else ""
            raise CommandError(f"{where}: unknown key {key!r}{hint}")
        if item is None:
            continue
        if not checks[name](item):
            raise CommandError(f"{where}: {name!r} cannot be {_name(item)}")
        found[name] = item
    return found


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def text_of(value: Any) -> bool:
    """Whether a value is a string; a check for `object_of`."""
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


_ENTRY: Mapping[str, Callable[[Any], bool]] = {
    "selectors": _list,
    "parent_id": text_of,
    "spiffe_id": text_of,
    "x509_svid_ttl": _number,
    "federates_with": _texts,
    "entry_id": text_of,
    "admin": _flag,
    "downstream": _flag,
    "entryExpiry": _number,
    "dns_names": _texts,
    "revision_number": _number,
    "store_svid": _flag,
    "jwt_svid_ttl": _number,
    "hint": text_of,
    "created_at": _number,
    "additional_attributes": _object,
}

_ATTRIBUTES: Mapping[str, Callable[[Any], bool]] = {
    "disable_x509_svid_prefetch": _flag,
    "jwt_svid_include_jti": _flag,
}
