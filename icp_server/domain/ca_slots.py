"""The life of an authority in its slot, as a table: prepared, active, old; and when each step is due.

Two slots take turns. The next authority is *prepared* (and its certificate published in the bundle) long before it is
*activated*, so that every verifier knows it before the first leaf it signs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

SLOTS = ("A", "B")
MAX_RECORDS = 10
"""Most authorities a journal remembers; the oldest go first."""

PREPARE_AT_MOST = timedelta(days=30)
ACTIVATE_AT_MOST = timedelta(days=7)
ACTIVATE_SHARE = 6
"""The next authority signs from when this part of the active one's life is left."""


class Status(enum.Enum):
    """Where in its life an authority stands."""

    PREPARED = "prepared"
    ACTIVE = "active"
    OLD = "old"


class Event(enum.Enum):
    """What can happen to an authority."""

    ACTIVATE = "activate"
    SUPERSEDE = "supersede"
    """Another one was activated."""
    DISPLACE = "displace"
    """Another one was prepared in its slot."""


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.PREPARED, Event.ACTIVATE): Status.ACTIVE,
    (Status.PREPARED, Event.DISPLACE): Status.OLD,
    (Status.ACTIVE, Event.SUPERSEDE): Status.OLD,
    (Status.OLD, Event.SUPERSEDE): Status.OLD,
    (Status.OLD, Event.DISPLACE): Status.OLD,
}
"""Everything that may happen. An active authority is never displaced: it must be superseded first."""


class IllegalTransition(ValueError):
    """The table has no such step."""


class Step(enum.Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    PREPARE = "prepare"
    ACTIVATE = "activate"


@dataclass(frozen=True, slots=True)
class AuthorityRecord:
    """One authority as the journal remembers it: public facts only."""

    authority_id: str
    """The subject key id of an X.509 authority in lower-case hex, the key ID (`kid`) of one that signs tokens."""
    slot: str
    status: Status
    issued_at: datetime
    not_after: datetime
    data: bytes = field(repr=False)
    """What the bundle publishes of it, DER: the certificate, or of one that signs tokens the SubjectPublicKeyInfo."""
    upstream_chain: tuple[bytes, ...] = field(default=(), repr=False)
    """What a leaf's chain carries above the leaf: empty for a self-signed root, and for keys of tokens."""

    @property
    def lifetime(self) -> timedelta:
        """From being issued to its end."""
        return self.not_after - self.issued_at


@dataclass(frozen=True, slots=True)
class CAJournal:
    """The authorities of one server and one kind, oldest first."""

    records: tuple[AuthorityRecord, ...] = ()

    def having(self, status: Status) -> AuthorityRecord | None:
        """The newest authority of this status."""
        return next((record for record in reversed(self.records) if record.status is status), None)

    def find(self, authority_id: str) -> AuthorityRecord | None:
        """The authority with this id."""
        return next((record for record in self.records if record.authority_id == authority_id), None)

    def beside(self, active: AuthorityRecord) -> AuthorityRecord | None:
        """What the other slot holds: the newest authority in it, prepared or old."""
        return next((record for record in reversed(self.records) if record.slot != active.slot), None)

    def prepared(self, record: AuthorityRecord) -> CAJournal:
        """With a further authority, prepared in its slot; what was in the slot is old from now on.

        Raises:
            IllegalTransition: the slot holds the active authority, or the record is not a prepared one.
        """
        if record.status is not Status.PREPARED:
            raise IllegalTransition(f"authority {record.authority_id} enters its slot {record.status.value}")
        kept = [
            _stepped(known, Event.DISPLACE) if known.slot == record.slot else known
            for known in self.records
            if known.authority_id != record.authority_id
        ]
        return CAJournal((*kept, record)[-MAX_RECORDS:])

    def activated(self, authority_id: str) -> CAJournal:
        """With this prepared authority active, and what was active old.

        Raises:
            IllegalTransition: it is not known, or not prepared.
        """
        if self.find(authority_id) is None:
            raise IllegalTransition(f"authority {authority_id} is not in the journal")
        return CAJournal(tuple(_activated(record, authority_id) for record in self.records))

    def abandoned(self, authority_id: str) -> CAJournal:
        """With this authority old, because its key is lost; its slot is free for another."""
        return CAJournal(
            tuple(_stepped(r, Event.SUPERSEDE) if r.authority_id == authority_id else r for r in self.records)
        )

    def without_expired(self, before: datetime) -> CAJournal:
        """Without what ended before a time; the active authority always stays."""
        return CAJournal(tuple(r for r in self.records if r.not_after >= before or r.status is Status.ACTIVE))


def next_step(journal: CAJournal, now: datetime, usable: frozenset[str]) -> Step:
    """What is due. ``usable`` are the ids of the authorities whose keys are at hand; others count as absent.

    Without an active authority one is prepared and activated at once; that the last one expired is no different.
    """
    active = _alive(journal.having(Status.ACTIVE), now, usable)
    prepared = _alive(journal.having(Status.PREPARED), now, usable)
    if active is None:
        return Step.PREPARE if prepared is None else Step.ACTIVATE
    remaining = active.not_after - now
    if prepared is None:
        return Step.PREPARE if remaining <= prepare_threshold(active.lifetime) else Step.NOTHING
    return Step.ACTIVATE if remaining <= activate_threshold(active.lifetime) else Step.NOTHING


def slot_to_prepare(journal: CAJournal) -> str:
    """The slot that does not hold the active authority."""
    active = journal.having(Status.ACTIVE)
    return SLOTS[0] if active is None or active.slot == SLOTS[1] else SLOTS[1]


def prepare_threshold(lifetime: timedelta) -> timedelta:
    """The next authority is prepared when no more than this remains of the active one."""
    return min(lifetime / 2, PREPARE_AT_MOST)


def activate_threshold(lifetime: timedelta) -> timedelta:
    """The next authority is activated when no more than this remains of the active one."""
    return min(lifetime / ACTIVATE_SHARE, ACTIVATE_AT_MOST)


def longest_svid_ttl(ca_ttl: timedelta) -> timedelta:
    """The longest leaf that a CA of this lifetime always signs in full: just before activation the least remains."""
    return activate_threshold(ca_ttl)


def shortest_ca_ttl(svid_ttl: timedelta) -> timedelta | None:
    """The shortest life of a CA that always signs such a leaf in full; None if no CA does."""
    return svid_ttl * ACTIVATE_SHARE if svid_ttl <= ACTIVATE_AT_MOST else None


def _alive(record: AuthorityRecord | None, now: datetime, usable: frozenset[str]) -> AuthorityRecord | None:
    if record is None or record.authority_id not in usable or now >= record.not_after:
        return None
    return record


def _activated(record: AuthorityRecord, authority_id: str) -> AuthorityRecord:
    if record.authority_id == authority_id:
        return _stepped(record, Event.ACTIVATE)
    return record if record.status is Status.PREPARED else _stepped(record, Event.SUPERSEDE)


def _stepped(record: AuthorityRecord, event: Event) -> AuthorityRecord:
    try:
        return replace(record, status=TRANSITIONS[record.status, event])
    except KeyError:
        raise IllegalTransition(f"authority {record.authority_id} is {record.status.value}: no {event.value}") from None
