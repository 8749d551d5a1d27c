"""The two slots of one kind of authority: its journal, the authorities whose keys are at hand, and one step each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Generic

from icp_server.ca.keys import KeyManager
from icp_server.ca.kinds import A, SlotKind
from icp_server.domain.ca_slots import AuthorityRecord, CAJournal, Status, Step, next_step, slot_to_prepare

logger = logging.getLogger(__name__)


class Slots(Generic[A]):
    """Belongs to the rotator, which lets one at a time work on it. `write` keeps the journal it is given."""

    def __init__(self, kind: SlotKind[A], keys: KeyManager, write: Callable[[CAJournal], Awaitable[None]]) -> None:
        self._kind = kind
        self._keys = keys
        self._write = write
        self._authorities: dict[str, A] = {}
        self.journal = CAJournal()

    def find(self, journal: CAJournal) -> dict[str, A]:
        """The authorities of a journal whose keys are here. Touches the key manager: run it in a thread."""
        found = {}
        for record in journal.records:
            if record.status is not Status.OLD:
                authority = self._kind.joined(record, self._keys.get(self._kind.key_name(record.slot)))
                if authority is not None:
                    found[record.authority_id] = authority
        return found

    def take_up(self, journal: CAJournal, authorities: dict[str, A]) -> None:
        """Go on from a journal, with what `find` found in it."""
        self.journal, self._authorities = journal, authorities
        active = journal.having(Status.ACTIVE)
        if active is not None and active.authority_id in authorities:
            self._kind.activate(authorities[active.authority_id])
            logger.info("%s loaded slot=%s authority_id=%s", self._kind.title, active.slot, active.authority_id)

    def is_due(self, now: datetime) -> bool:
        """Whether there is a step to take."""
        return next_step(self.journal, now, frozenset(self._authorities)) is not Step.NOTHING

    async def advance(self, now: datetime) -> bool:
        """Take every step that is due; whether one was taken."""
        taken = False
        while (step := next_step(self.journal, now, frozenset(self._authorities))) is not Step.NOTHING:
            if step is Step.PREPARE:
                await self.prepare(now)
            else:
                await self.activate()
            taken = True
        return taken

    async def prepare(self, now: datetime) -> AuthorityRecord:
        """Make an authority in the slot that is free, and publish it."""
        slot = slot_to_prepare(self._usable_journal())
        key = await asyncio.to_thread(self._keys.generate, self._kind.key_name(slot), self._kind.key_type)
        record = await self._kind.made(key, slot, now)
        authority = self._kind.joined(record, key)
        assert authority is not None, "it was made of this key"
        # Published before it is in the journal: whatever the journal can activate, verifiers can know.
        await self._kind.publish(record)
        await self._keep(self._usable_journal().prepared(record))
        self._authorities[record.authority_id] = authority
        logger.info(
            "%s prepared slot=%s authority_id=%s expires_at=%s",
            self._kind.title,
            slot,
            record.authority_id,
            record.not_after,
        )
        return record

    async def activate(self) -> AuthorityRecord:
        """Put the prepared authority to work; there must be one with its key."""
        record = self.journal.having(Status.PREPARED)
        assert record is not None, "whoever calls saw it"
        authority = self._authorities[record.authority_id]
        await self._keep(self.journal.activated(record.authority_id))
        self._kind.activate(authority)
        self._authorities = {record.authority_id: authority}
        logger.info("%s activated slot=%s authority_id=%s", self._kind.title, record.slot, record.authority_id)
        return record

    def has_key(self, authority_id: str) -> bool:
        """Whether the key of an authority that is not old is at hand."""
        return authority_id in self._authorities

    async def _keep(self, journal: CAJournal) -> None:
        await self._write(journal)
        self.journal = journal

    def _usable_journal(self) -> CAJournal:
        """The journal with an active authority whose key is lost as good as superseded: its slot may be taken."""
        active = self.journal.having(Status.ACTIVE)
        if active is None or active.authority_id in self._authorities:
            return self.journal
        return self.journal.abandoned(active.authority_id)
