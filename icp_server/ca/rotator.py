"""Rotates the authorities of each kind through two slots: prepares (and publishes) the next, then activates it.

The journal in the store says what is in which slot; a write names the revision it read, so that two servers, or one
that was paused, never both believe in their own version. The order of steps is such that a kill at any point leaves a
journal whose authorities are all in the bundle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from icp_server.ca.journal import decode_journals, encode_journals
from icp_server.ca.keys import KeyManager
from icp_server.ca.kinds import SlotKind
from icp_server.ca.slots import Slots
from icp_server.domain.authorities import AuthorityKind, LocalAuthorities
from icp_server.domain.ca_slots import AuthorityRecord, CAJournal
from icp_server.domain.errors import JournalConflictError, Unavailable
from icp_server.ports import Clock, Store, StoredJournal

BUNDLE_KEEPS_EXPIRED = timedelta(hours=24)
"""An authority stays in the bundle this long after its end."""
JOURNAL_KEEPS_EXPIRED = timedelta(days=14)
TURN_SECONDS = 3.0
"""How long one server waits for another that rotates."""


class AuthorityRotator:
    """Owns the journal of this server. One at a time works on it; `start` comes first."""

    def __init__(self, store: Store, keys: KeyManager, kinds: Sequence[SlotKind[Any]], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._stored: StoredJournal | None = None
        self._slots: dict[AuthorityKind, Slots[Any]] = {
            kind.kind: Slots(kind, keys, partial(self.write, kind.kind)) for kind in kinds
        }
        self._journals: dict[AuthorityKind, CAJournal] = {kind: CAJournal() for kind in AuthorityKind}
        self._lock = asyncio.Lock()

    def journal(self, kind: AuthorityKind) -> CAJournal:
        """The journal of a kind as last read or written."""
        return self._journals[kind]

    async def start(self) -> None:
        """Find this server's journal by the keys it holds, and have active authorities when done.

        Raises:
            StoreError: the database, or the journal in it, cannot be read or written.
            KeyStoreError: keys cannot be kept.
        """
        async with self._lock:
            await self._load()
        await self.tick()

    async def tick(self) -> bool:
        """Take every step that is due; whether one was taken (and the bundle may be another).

        Raises:
            JournalConflictError: somebody else wrote the journal; it was read again, and the next tick goes on from it.
        """
        async with self._working():
            if not any(slots.is_due(self._clock()) for slots in self._slots.values()):
                return False
            # One server after the other, so that the bundle grows by one authority at a time; who waited long goes on
            # all the same, and the journal's revision decides.
            async with self._store.turn("rotation", TURN_SECONDS):
                taken = [await slots.advance(self._clock()) for slots in self._slots.values()]
            return any(taken)

    def local_authorities(self, kind: AuthorityKind) -> LocalAuthorities:
        """The active authority and the one beside it.

        Raises:
            Unavailable: there is no active one, or this server has no such authorities.
        """
        return LocalAuthorities.of(self._journals[kind] if kind in self._slots else CAJournal())

    async def prepare(self, kind: AuthorityKind) -> AuthorityRecord:
        """Make and publish the next authority, in place of one that was prepared before.

        Raises:
            Unavailable: there is no active one, or this server has no such authorities.
            StoreError, KeyStoreError: it cannot be kept.
        """
        async with self._working():
            self.local_authorities(kind)
            return await self._slots[kind].prepare(self._clock())

    async def activate(self, kind: AuthorityKind, authority_id: str) -> AuthorityRecord:
        """Sign with the prepared authority from now on.

        Raises:
            InvalidArgument, Internal: it is not the prepared one.
            Unavailable: its key is not here, or this server has no such authorities.
            StoreError: the journal cannot be written.
        """
        async with self._working():
            self.local_authorities(kind).check_activation(authority_id)
            if not self._slots[kind].has_key(authority_id):
                raise Unavailable(f"the key of {kind.words} authority {authority_id} is not here: prepare another one")
            return await self._slots[kind].activate()

    async def prune(self) -> bool:
        """Drop what expired long ago from bundle and journals; whether the bundle changed."""
        async with self._working():
            now = self._clock()
            roots = await self._store.bundles.prune_x509(now - BUNDLE_KEEPS_EXPIRED) is not None
            keys = await self._store.authorities.prune_keys(now - BUNDLE_KEEPS_EXPIRED)
            await self._prune_journals(now - JOURNAL_KEEPS_EXPIRED)
            return roots or keys

    async def write(self, kind: AuthorityKind, journal: CAJournal) -> None:
        """Keep the journal of a kind. For `Slots`, in whose hands the rotator's lock is.

        Raises:
            JournalConflictError: somebody else wrote it.
        """
        await self._write({**self._journals, kind: journal})

    async def _prune_journals(self, before: datetime) -> None:
        journals = {kind: journal.without_expired(before) for kind, journal in self._journals.items()}
        if self._stored is not None and journals != self._journals:
            await self._write(journals)
            for kind, slots in self._slots.items():
                slots.journal = journals[kind]
        for stored in await self._store.journals.all():
            records = [record for each in decode_journals(stored.data).values() for record in each.records]
            ours = self._stored is not None and stored.journal_id == self._stored.journal_id
            if not ours and all(record.not_after < before for record in records):
                await self._store.journals.delete(stored)

    async def _load(self) -> None:
        self._stored = None
        self._journals = {kind: CAJournal() for kind in AuthorityKind}
        found: dict[AuthorityKind, dict[str, Any]] = {kind: {} for kind in self._slots}
        for stored in await self._store.journals.all():
            journals = decode_journals(stored.data)
            held = {kind: await asyncio.to_thread(slots.find, journals[kind]) for kind, slots in self._slots.items()}
            if any(held.values()):
                self._stored, self._journals, found = stored, journals, held
                break
        for kind, slots in self._slots.items():
            slots.take_up(self._journals[kind], found[kind])

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        async with self._lock:
            try:
                yield
            except JournalConflictError:
                await self._load()
                raise

    async def _write(self, journals: dict[AuthorityKind, CAJournal]) -> None:
        data = encode_journals(journals)
        if self._stored is None:
            self._stored = await self._store.journals.create(data)
        else:
            self._stored = await self._store.journals.replace(self._stored, data)
        self._journals = journals
