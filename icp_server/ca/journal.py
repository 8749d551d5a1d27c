"""The CA journal as bytes for the store, and back: JSON with a version, certificates in base64, no keys."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from icp_server.domain.ca_slots import SLOTS, AuthorityRecord, CAJournal, Status
from icp_server.domain.errors import StoreError

_VERSION = 1


class JournalError(StoreError):
    """The journal in the database is not one this release can read."""


def encode_journal(journal: CAJournal) -> bytes:
    """The journal as bytes."""
    records = [
        {
            "authority_id": record.authority_id,
            "slot": record.slot,
            "status": record.status.value,
            "issued_at": record.issued_at.timestamp(),
            "not_after": record.not_after.timestamp(),
            "certificate": base64.b64encode(record.certificate).decode("ascii"),
            "upstream_chain": [base64.b64encode(link).decode("ascii") for link in record.upstream_chain],
        }
        for record in journal.records
    ]
    return json.dumps({"version": _VERSION, "x509": records}, sort_keys=True).encode("ascii")


def decode_journal(data: bytes) -> CAJournal:
    """The journal of bytes that `encode_journal` made.

    Raises:
        JournalError: they are something else.
    """
    try:
        document = json.loads(data)
        if document["version"] != _VERSION:
            raise JournalError(f"the CA journal has version {document['version']}; this release reads {_VERSION}")
        return CAJournal(tuple(_record(item) for item in document["x509"]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise JournalError(f"the CA journal in the database is malformed: {error!r}") from error


def _record(item: dict[str, Any]) -> AuthorityRecord:
    slot = item["slot"]
    if slot not in SLOTS:
        raise ValueError(f"slot {slot!r}")
    bytes.fromhex(item["authority_id"])
    return AuthorityRecord(
        authority_id=item["authority_id"],
        slot=slot,
        status=Status(item["status"]),
        issued_at=datetime.fromtimestamp(item["issued_at"], UTC),
        not_after=datetime.fromtimestamp(item["not_after"], UTC),
        certificate=base64.b64decode(item["certificate"], validate=True),
        upstream_chain=tuple(base64.b64decode(link, validate=True) for link in item["upstream_chain"]),
    )
