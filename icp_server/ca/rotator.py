"""Rotates the X.509 authority through two slots: prepares (and publishes) the next one, then activates it.

The journal in the store says what is in which slot; a write names the revision it read, so that two servers, or one
that was paused, never both believe in their own version. The order of steps is such that a kill at any point leaves a
journal whose authorities are all in the bundle.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta

from icp_server.ca.authority import SigningAuthority, self_signed
from icp_server.ca.journal import decode_journal, encode_journal
from icp_server.ca.keys import KeyManager
from icp_server.ca.signer import SVIDSigner
from icp_server.domain.ca_slots import AuthorityRecord, CAJournal, Status, Step, next_step, slot_to_prepare
from icp_server.domain.errors import JournalConflictError
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CASubject, ca_template, new_serial_number
from icp_server.ports import Clock, Store, StoredJournal

logger = logging.getLogger(__name__)

BUNDLE_KEEPS_EXPIRED = timedelta(hours=24)
"""An authority stays in the bundle this long after its end."""
JOURNAL_KEEPS_EXPIRED = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class CASettings:
    """What the operator chose for the authorities."""

    ca_ttl: timedelta = timedelta(hours=24)
    key_type: KeyType = KeyType.EC_P256
    subject: CASubject = field(default_factory=CASubject)


def key_name(slot: str) -> str:
    """The name a slot's key has in the key manager (SPIRE's own, so its key files can be taken over)."""
    return f"x509-CA-{slot}"


class AuthorityRotator:
    """Owns the journal of this server. One at a time works on it; `start` comes first."""

    def __init__(self, store: Store, keys: KeyManager, signer: SVIDSigner, settings: CASettings, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._signer = signer
        self._settings = settings
        self._clock = clock
        self._stored: StoredJournal | None = None
        self._journal = CAJournal()
        self._authorities: dict[str, SigningAuthority] = {}
        self._lock = asyncio.Lock()

    @property
    def journal(self) -> CAJournal:
        """The journal as last read or written."""
        return self._journal

    async def start(self) -> None:
        """Find this server's journal by the keys it holds, and have an active authority when done.

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
        async with self._lock:
            taken = False
            while (step := next_step(self._journal, self._clock(), frozenset(self._authorities))) is not Step.NOTHING:
                try:
                    await (self._prepare() if step is Step.PREPARE else self._activate())
                except JournalConflictError:
                    await self._load()
                    raise
                taken = True
            return taken

    async def prune(self) -> bool:
        """Drop what expired long ago from bundle and journals; whether the bundle changed."""
        async with self._lock:
            now = self._clock()
            bundle = await self._store.bundles.prune_x509(now - BUNDLE_KEEPS_EXPIRED)
            journal = self._journal.without_expired(now - JOURNAL_KEEPS_EXPIRED)
            if self._stored is not None and journal != self._journal:
                await self._write(journal)
            for stored in await self._store.journals.all():
                other = decode_journal(stored.data)
                ours = self._stored is not None and stored.journal_id == self._stored.journal_id
                if not ours and all(record.not_after < now - JOURNAL_KEEPS_EXPIRED for record in other.records):
                    await self._store.journals.delete(stored)
            return bundle is not None

    async def _load(self) -> None:
        self._stored, self._journal, self._authorities = None, CAJournal(), {}
        for stored in await self._store.journals.all():
            journal = decode_journal(stored.data)
            authorities = await asyncio.to_thread(self._with_keys, journal)
            if authorities:
                self._stored, self._journal, self._authorities = stored, journal, authorities
                break
        active = self._journal.having(Status.ACTIVE)
        if active is not None and active.authority_id in self._authorities:
            self._signer.activate(self._authorities[active.authority_id])
            logger.info("X509 CA loaded slot=%s authority_id=%s", active.slot, active.authority_id)

    def _with_keys(self, journal: CAJournal) -> dict[str, SigningAuthority]:
        found = {}
        for record in journal.records:
            if record.status is not Status.OLD:
                authority = SigningAuthority.of(record, self._keys.get(key_name(record.slot)))
                if authority is not None:
                    found[record.authority_id] = authority
        return found

    async def _prepare(self) -> None:
        now = self._clock()
        slot = slot_to_prepare(self._usable_journal())
        key = await asyncio.to_thread(self._keys.generate, key_name(slot), self._settings.key_type)
        template = ca_template(
            self._store.trust_domain, now, self._settings.ca_ttl, self._settings.subject, new_serial_number()
        )
        certificate, authority_id = self_signed(template, key)
        record = AuthorityRecord(authority_id, slot, Status.PREPARED, now, template.not_after, certificate)
        authority = SigningAuthority.of(record, key)
        assert authority is not None, "the certificate was made for this key"
        # Published before it is in the journal: whatever the journal can activate, verifiers can know.
        await self._store.bundles.append_x509(certificate)
        await self._write(self._usable_journal().prepared(record))
        self._authorities[authority_id] = authority
        logger.info("X509 CA prepared slot=%s authority_id=%s expires_at=%s", slot, authority_id, record.not_after)

    async def _activate(self) -> None:
        record = self._journal.having(Status.PREPARED)
        assert record is not None, "next_step saw it"
        await self._write(self._journal.activated(record.authority_id))
        authority = self._authorities[record.authority_id]
        self._signer.activate(authority)
        self._authorities = {record.authority_id: authority}
        logger.info("X509 CA activated slot=%s authority_id=%s", record.slot, record.authority_id)

    def _usable_journal(self) -> CAJournal:
        """The journal with an active authority whose key is lost as good as superseded: its slot may be taken."""
        active = self._journal.having(Status.ACTIVE)
        if active is None or active.authority_id in self._authorities:
            return self._journal
        return self._journal.abandoned(active.authority_id)

    async def _write(self, journal: CAJournal) -> None:
        data = encode_journal(journal)
        if self._stored is None:
            self._stored = await self._store.journals.create(data)
        else:
            self._stored = await self._store.journals.replace(self._stored, data)
        self._journal = journal
