"""What one workload is told over time: waits, sends what changed, and ends the stream with the status that is true."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Never

from authsec_sdk.rpc import GRPCError, Status
from icp_agent.api.callers import Caller
from icp_agent.domain.agent_state import Answer
from icp_agent.domain.identity_cache import WorkloadView, must_be_told
from icp_agent.identities import Identities, StatusBoard

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 30.0
"""How long a caller waits for the first sync, or for its SVIDs to be signed, before it is told to come again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a kind of call is about: `svids` or bundles alone, and whether callers without an entry get bundles too."""

    svids: bool = True
    unregistered: bool = False
    jwt: bool = False
    """Whether the bundles are those of JWT authorities."""

    def changed(self, before: WorkloadView | None, after: WorkloadView) -> bool:
        """Whether a caller that was told `before` is to be told `after`."""
        if self.svids and (after.registered or not self.unregistered):
            return must_be_told(before, after)
        if before is None or (self.svids and before.registered):
            return True
        if self.jwt:
            return (before.jwt_bundle, before.jwt_federated) != (after.jwt_bundle, after.jwt_federated)
        return (before.bundle, before.federated) != (after.bundle, after.federated)


class Subscription:
    """One call of one workload. It ends by GRPCError alone, or by the caller leaving.

    The statuses: PERMISSION_DENIED only when the server has said which entries there are and none is for this caller,
    or when it banned the agent; UNAUTHENTICATED when the caller is another process than the one that connected;
    UNAVAILABLE for all that may pass. Clients take OK and CANCELLED for an end, and some drop a valid identity on
    PERMISSION_DENIED, so neither is ever said for any other reason.
    """

    def __init__(
        self,
        caller: Caller,
        identities: Identities,
        board: StatusBoard,
        wanted: Wanted,
        *,
        loggable_selectors: Sequence[str] = (),
    ) -> None:
        self._caller = caller
        self._identities = identities
        self._board = board
        self._wanted = wanted
        self._loggable = tuple(loggable_selectors)
        self._told: WorkloadView | None = None
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    async def views(self) -> AsyncGenerator[WorkloadView, None]:
        """What to tell, first and then whenever it changed."""
        give_up_at = self._now() + WAIT_SECONDS
        while True:
            await self._caller.attest()
            attest_at = self._now() + self._caller.next_attestation()
            with self._identities.subscribed(self._caller.selectors):
                while self._now() < attest_at:
                    changed = self._identities.changed
                    view = self._look()
                    if view is not None:
                        self._told = view
                        yield view
                    if self._told is None and self._now() >= give_up_at:
                        self._unavailable("the agent has no identity for this workload yet")
                    until = attest_at if self._told is not None else min(attest_at, give_up_at)
                    await self._wait(changed, until)
                    # Whatever woke us: what comes next is not for a process that took this one's place.
                    self._caller.verify_still_same()

    def _look(self) -> WorkloadView | None:
        """What to tell now, None if there is nothing new or not all of it yet."""
        self._check_phase()
        cache, now = self._identities.cache, self._identities.clock()
        if not cache.synced or cache.bundle is None:
            return None
        view = cache.view(self._caller.selectors, now)
        if not view.registered:
            if not self._wanted.unregistered:
                self._deny()
        elif self._wanted.svids and not view.complete:
            return self._incomplete(view)
        return view if self._wanted.changed(self._told, view) else None

    def _check_phase(self) -> None:
        status = self._board.status
        if status.answer is Answer.DENY:
            self._deny()
        if status.answer is Answer.REFUSE:
            self._unavailable(f"agent: {status.phase.value}")

    def _incomplete(self, view: WorkloadView) -> WorkloadView | None:
        """Some SVID is missing: have it signed, and meanwhile leave the caller with what it has, while that is true."""
        self._identities.demand(view.pending - view.failed)
        told_is_over = self._told is not None and self._expired(self._told)
        if view.identities:
            return view if told_is_over else None
        if told_is_over or view.pending == view.failed:
            self._unavailable("the SVIDs for this workload expired or could not be signed, and the server is away")
        return None

    def _expired(self, view: WorkloadView) -> bool:
        return view.expires_at is not None and view.expires_at <= self._identities.clock()

    async def _wait(self, changed: asyncio.Event, until: float) -> None:
        seconds = until - self._now()
        if self._wanted.svids and self._told is not None and self._told.expires_at is not None:
            left = (self._told.expires_at - self._identities.clock()).total_seconds()
            # Already over: something else is being waited for, and is looked after soon.
            seconds = min(seconds, left if left > 0 else 1.0)
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await changed.wait()
        except TimeoutError:
            pass

    def _deny(self) -> Never:
        allowed = sorted(
            str(selector)
            for selector in self._caller.selectors
            if any(str(selector) == prefix or str(selector).startswith(f"{prefix}:") for prefix in self._loggable)
        )
        logger.error("No identity issued registered=false pid=%d selectors=%s", self._caller.pid, allowed)
        raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")

    def _unavailable(self, message: str) -> Never:
        logger.warning("Workload sent away to try again pid=%d reason=%r", self._caller.pid, message)
        raise GRPCError(Status.UNAVAILABLE, message)
