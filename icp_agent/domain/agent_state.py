"""The agent's life as a table: which phase it is in, what moves it to another, and what each means for callers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Self

from authsec_sdk.spiffe import SpiffeID


class Phase(Enum):
    """Where the agent stands. The values are what `healthcheck -verbose` shows."""

    STARTING = "starting"
    ATTESTING = "attesting this node"
    ATTESTED = "attested, waiting for the first sync"
    READY = "ready"
    SERVER_AWAY = "server away, serving what is cached"
    EXPIRED = "this agent's own SVID can no longer be used, attesting again"
    FORGOTTEN = "the server does not know this agent, attesting again"
    BANNED = "banned by the server"
    STOPPING = "stopping"


class Event(Enum):
    """What can happen to an agent."""

    ATTESTATION_BEGAN = "attestation began"
    ATTESTED = "attested"
    SYNCED = "synced"
    FAILED = "a call failed"
    EXPIRED = "own SVID can no longer be used"
    FORGOTTEN = "the server does not know the agent"
    BANNED = "banned"
    STOPPED = "told to stop"


class DenialReason(IntEnum):
    """Why a server denies an agent, by the numbers of `spire.api.types.PermissionDeniedDetails.Reason`."""

    UNKNOWN = 0
    AGENT_EXPIRED = 1
    AGENT_NOT_ATTESTED = 2
    AGENT_NOT_ACTIVE = 3
    AGENT_BANNED = 4
    AGENT_MUST_REATTEST = 5

    @property
    def event(self) -> Event:
        """What the denial means for the agent."""
        if self is DenialReason.AGENT_BANNED:
            return Event.BANNED
        if self in (DenialReason.AGENT_EXPIRED, DenialReason.AGENT_MUST_REATTEST):
            return Event.EXPIRED
        return Event.FAILED if self is DenialReason.UNKNOWN else Event.FORGOTTEN


class Answer(Enum):
    """What a workload that asks now is answered."""

    SERVE = "from the cache"
    WAIT = "after the first sync, or UNAVAILABLE"
    REFUSE = "UNAVAILABLE"
    DENY = "PERMISSION_DENIED"


ANSWERS: Mapping[Phase, Answer] = MappingProxyType(
    {
        Phase.STARTING: Answer.WAIT,
        Phase.ATTESTING: Answer.WAIT,
        Phase.ATTESTED: Answer.WAIT,
        Phase.READY: Answer.SERVE,
        Phase.SERVER_AWAY: Answer.SERVE,
        Phase.EXPIRED: Answer.SERVE,
        Phase.FORGOTTEN: Answer.REFUSE,
        Phase.BANNED: Answer.DENY,
        Phase.STOPPING: Answer.REFUSE,
    }
)

_ANYWHERE = {Event.STOPPED: Phase.STOPPING}
_OWN_TROUBLE = {Event.EXPIRED: Phase.EXPIRED, Event.FORGOTTEN: Phase.FORGOTTEN, Event.BANNED: Phase.BANNED}

TRANSITIONS: Mapping[Phase, Mapping[Event, Phase]] = MappingProxyType(
    {
        Phase.STARTING: {Event.ATTESTATION_BEGAN: Phase.ATTESTING, Event.ATTESTED: Phase.ATTESTED, **_ANYWHERE},
        Phase.ATTESTING: {Event.ATTESTED: Phase.ATTESTED, Event.BANNED: Phase.BANNED, **_ANYWHERE},
        # Nothing is cached yet: the agent is where it was before it attested.
        Phase.ATTESTED: {Event.SYNCED: Phase.READY, **_OWN_TROUBLE, Event.EXPIRED: Phase.ATTESTING, **_ANYWHERE},
        Phase.READY: {Event.FAILED: Phase.SERVER_AWAY, **_OWN_TROUBLE, **_ANYWHERE},
        Phase.SERVER_AWAY: {Event.SYNCED: Phase.READY, **_OWN_TROUBLE, **_ANYWHERE},
        Phase.EXPIRED: {Event.ATTESTED: Phase.SERVER_AWAY, **_OWN_TROUBLE, **_ANYWHERE},
        Phase.FORGOTTEN: {Event.ATTESTED: Phase.ATTESTED, Event.BANNED: Phase.BANNED, **_ANYWHERE},
        Phase.BANNED: {Event.ATTESTED: Phase.ATTESTED, **_ANYWHERE},
        Phase.STOPPING: {},
    }
)
"""What is not in the table leaves the phase as it is."""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """What the agent says of itself: its phase, since when, and the last thing that went wrong.

    `problem` is for operators and may name addresses and IDs; it is empty while all is well.
    """

    since: datetime
    phase: Phase = Phase.STARTING
    problem: str = ""
    agent_id: SpiffeID | None = None
    last_sync: datetime | None = None

    def after(self, event: Event, now: datetime, *, problem: str = "") -> Self:
        """The status once `event` has happened."""
        phase = TRANSITIONS[self.phase].get(event, self.phase)
        return replace(
            self,
            phase=phase,
            since=self.since if phase is self.phase else now,
            problem=problem,
            last_sync=now if event is Event.SYNCED else self.last_sync,
        )

    def known_as(self, agent_id: SpiffeID) -> Self:
        """The same, for the agent whose ID has become known."""
        return replace(self, agent_id=agent_id)

    @property
    def answer(self) -> Answer:
        """What workloads are answered in this phase."""
        return ANSWERS[self.phase]

    @property
    def healthy(self) -> bool:
        """Whether the agent can do its work, if only from its cache."""
        return self.phase in (Phase.READY, Phase.SERVER_AWAY)

    def __str__(self) -> str:
        parts = [f"{self.phase.value} since {_text(self.since)}"]
        if self.agent_id is not None:
            parts.append(f"agent {self.agent_id}")
        if self.last_sync is not None:
            parts.append(f"last sync {_text(self.last_sync)}")
        return ", ".join(parts)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
