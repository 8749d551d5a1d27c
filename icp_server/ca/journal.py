"""The CA journal as bytes for the store, and back: JSON with a version, public facts in base64, no keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.ca_slots import SLOTS, AuthorityRecord, CAJournal, Status
from icp_server.domain.errors import StoreError

_VERSION = 2
_FIRST_VERSION = 1
"""Knew X.509 authorities alone."""


class JournalError(StoreError):
    """The journal in the database is not one this release can read."""


def encode_journals(journals: Mapping[AuthorityKind, CAJournal]) -> bytes:
    """The journals of one server, one a kind, as bytes."""
    kinds = {kind.value: [_encoded(record) for record in journal.records] for kind, journal in journals.items()}
    return json.dumps({"version": _VERSION, **kinds}, sort_keys=True).encode("ascii")


def decode_journals(data: bytes) -> dict[AuthorityKind, CAJournal]:
    """The journals of bytes that `encode_journals` made, of this release or an earlier one; each kind has one.

    Raises:
        JournalError: they are something else.
    """
    try:
        document = json.loads(data)
        version = document["version"]
        if version not in (_FIRST_VERSION, _VERSION):
            raise JournalError(f"the CA journal has version {version}; this release reads up to {_VERSION}")
        known = (AuthorityKind.X509,) if version == _FIRST_VERSION else tuple(AuthorityKind)
        read = {kind: CAJournal(tuple(_record(item, kind) for item in document[kind.value])) for kind in known}
        return {kind: read.get(kind, CAJournal()) for kind in AuthorityKind}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise JournalError(f"the CA journal in the database is malformed: {error!r}") from error


def _encoded(record: AuthorityRecord) -> dict[str, object]:
    return {
        "authority_id": record.authority_id,
        "slot": record.slot,
        "status": record.status.value,
        "issued_at": record.issued_at.timestamp(),
        "not_after": record.not_after.timestamp(),
        "certificate": base64.b64encode(record.data).decode("ascii"),
        "upstream_chain": [base64.b64encode(link).decode("ascii") for link in record.upstream_chain],
    }


def _record(item: dict[str, Any], kind: AuthorityKind) -> AuthorityRecord:
    slot, authority_id = item["slot"], item["authority_id"]
    if slot not in SLOTS:
        raise ValueError(f"slot {slot!r}")
    if not isinstance(authority_id, str) or not authority_id:
        raise ValueError("no authority id")
    if kind is AuthorityKind.X509:
        bytes.fromhex(authority_id)
    return AuthorityRecord(
        authority_id=authority_id,
        slot=slot,
        status=Status(item["status"]),
        issued_at=datetime.fromtimestamp(item["issued_at"], UTC),
        not_after=datetime.fromtimestamp(item["not_after"], UTC),
        data=base64.b64decode(item["certificate"], validate=True),
        upstream_chain=tuple(base64.b64decode(link, validate=True) for link in item["upstream_chain"]),
    )
