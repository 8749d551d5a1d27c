"""The one task that keeps the CA going: rotation, the server's own SVID, and pruning; and an operator's hand on it."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.server_identity import ServerIdentity
from icp_server.domain.authorities import AuthorityKind, LocalAuthorities
from icp_server.domain.ca_slots import AuthorityRecord
from icp_server.ports import Clock

logger = logging.getLogger(__name__)

TICK = timedelta(seconds=10)
PRUNE_EVERY = timedelta(hours=6)


class CALifecycle:
    """Owns rotator and server identity. `start`, then `run` until cancelled; whoever starts `run` awaits its end.

    Implements `AuthorityControl`.
    """

    def __init__(
        self, rotator: AuthorityRotator, identity: ServerIdentity, clock: Clock, *, tick: timedelta = TICK
    ) -> None:
        self._rotator = rotator
        self._identity = identity
        self._clock = clock
        self._tick = tick
        self._pruned_at: datetime | None = None

    async def start(self) -> None:
        """Have an active authority and a published server SVID when done.

        Raises:
            SpiffeError: whatever keeps the server from having them; it cannot serve then.
        """
        await self._rotator.start()
        await self._identity.refresh()

    def local_authorities(self, kind: AuthorityKind) -> LocalAuthorities:
        """See `AuthorityControl`."""
        return self._rotator.local_authorities(kind)

    async def prepare(self, kind: AuthorityKind) -> AuthorityRecord:
        """See `AuthorityControl`. Our own listener trusts a new root before anybody presents something from it."""
        record = await self._rotator.prepare(kind)
        await self._identity.refresh()
        return record

    async def activate(self, kind: AuthorityKind, authority_id: str) -> AuthorityRecord:
        """See `AuthorityControl`."""
        return await self._rotator.activate(kind, authority_id)

    async def bundle_changed(self) -> None:
        """See `AuthorityControl`."""
        await self._identity.refresh()

    async def run(self) -> None:
        """Tick for ever. A tick that fails is logged, and the next one tries again."""
        while True:
            await asyncio.sleep(self._tick.total_seconds())
            await self.step()

    async def step(self) -> None:
        """One tick: each part on its own, so that the failure of one is not the other's."""
        now = self._clock()
        try:
            await self._rotator.tick()
            if self._pruned_at is None or now - self._pruned_at >= PRUNE_EVERY:
                await self._rotator.prune()
                self._pruned_at = now
        except Exception:
            logger.exception("Unable to rotate X509 CA")
        try:
            await self._identity.refresh()
        except Exception:
            logger.exception("Could not rotate server SVID")
