"""The identities as they are now, for those who wait for them to change: one snapshot swapped, all waiters woken."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from authsec_sdk.spire.selectors import Selector
from icp_agent.domain.agent_state import AgentStatus, Event
from icp_agent.domain.identity_cache import IdentityCache
from icp_agent.domain.sync_plan import Use

logger = logging.getLogger(__name__)


class Identities:
    """Holds the newest `IdentityCache`, who uses what of it, and which entries workloads wait for.

    Belongs to one event loop; nothing here is safe from another thread.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self._cache = IdentityCache()
        self._changed = asyncio.Event()
        self._demanded = asyncio.Event()
        self._subscribed: Counter[frozenset[Selector]] = Counter()
        self._last_asked: dict[str, float] = {}

    @property
    def cache(self) -> IdentityCache:
        """The newest snapshot."""
        return self._cache

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change, once. Take it before looking at `cache`, or a change in between is missed."""
        return self._changed

    def replace(self, cache: IdentityCache) -> None:
        """Make `cache` the newest and wake who waits, unless nothing changed."""
        if cache is self._cache:
            return
        self._cache = cache
        self._last_asked = {id_: moment for id_, moment in self._last_asked.items() if id_ in cache.entries}
        self.wake()

    def clear(self) -> None:
        """Forget every entry, SVID and bundle, as after a ban: nothing of it may be handed out any more."""
        self.replace(IdentityCache())

    def wake(self) -> None:
        """Let everybody who waits look again, for instance because the agent's phase changed."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @contextmanager
    def subscribed(self, selectors: frozenset[Selector]) -> Iterator[None]:
        """While open, the entries for these selectors are in use and keep their SVIDs whatever the limit."""
        self._subscribed[selectors] += 1
        try:
            yield
        finally:
            self._subscribed[selectors] -= 1
            if not self._subscribed[selectors]:
                del self._subscribed[selectors]

    def demand(self, entry_ids: Iterable[str]) -> None:
        """Say that a workload waits for these entries' SVIDs now; for none of them nobody is woken."""
        moment = time.monotonic()
        asked = dict.fromkeys(entry_ids, moment)
        self._last_asked.update(asked)
        if asked:
            self._demanded.set()

    async def until_demanded(self, timeout: float) -> bool:
        """Wait for a demand, at most `timeout` seconds; whether there was one."""
        try:
            async with asyncio.timeout(timeout):
                await self._demanded.wait()
        except TimeoutError:
            return False
        self._demanded.clear()
        return True

    def use(self) -> Use:
        """Which entries are in use now, and when the others were last."""
        active = frozenset(entry.id for selectors in self._subscribed for entry in self._cache.matching(selectors))
        moment = time.monotonic()
        self._last_asked.update((id_, moment) for id_ in active)
        return Use(active, self._last_asked)


class StatusBoard:
    """The agent's status as it is now; what changes it also wakes those who wait for identities."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._status = AgentStatus(identities.clock())

    @property
    def status(self) -> AgentStatus:
        """The newest status."""
        return self._status

    def happened(self, event: Event, *, problem: str = "") -> AgentStatus:
        """Note what happened and return the status it leads to."""
        before = self._status
        self._status = before.after(event, self._identities.clock(), problem=problem)
        if self._status.phase is not before.phase:
            logger.info("Agent changed its state state=%r before=%r", self._status.phase.value, before.phase.value)
            self._identities.wake()
        return self._status

    def note(self, status: AgentStatus) -> None:
        """Replace what is known beside the phase, such as the agent's ID."""
        self._status = status
