"""How a source is doing, as a value: for health endpoints, metrics and people."""

import enum
from dataclasses import dataclass
from datetime import datetime

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.workloadapi.address import Endpoint

__all__ = ["Progress", "SourcePhase", "SourceStatus"]


class SourcePhase(enum.Enum):
    """What a source is doing with its agent."""

    NEW = "new"
    """Nothing yet: not started, or forked off and not used since."""

    CONNECTING = "connecting"
    """Waiting for the agent to accept, or to answer for the first time."""

    CONNECTED = "connected"
    """A stream is open and has delivered something."""

    UNAVAILABLE = "unavailable"
    """The agent is away; trying again within 5 seconds."""

    NO_IDENTITY = "no identity"
    """The agent denies this process an identity; trying again within 5 seconds."""

    REFUSED = "refused"
    """The agent does not understand the call; trying again within a minute."""

    CLOSED = "closed"
    """`close` was called."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the source's thread has seen so far; each event makes a new one."""

    phase: SourcePhase = SourcePhase.NEW
    attempts: int = 0
    failures: int = 0
    updates: int = 0
    rejected: int = 0
    last_update: datetime | None = None
    last_error: SpiffeError | None = None
    last_error_at: datetime | None = None
    problems: tuple[SpiffeError, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source at one moment.

    `healthy` says that there is an identity which has not expired: what a readiness probe asks. It stays true while the
    agent is away, for what is known still holds; `connected` says whether news would arrive. Errors stay readable here
    after things are well again, until others take their place.
    """

    endpoint: Endpoint
    phase: SourcePhase
    healthy: bool
    spiffe_id: SpiffeID | None
    expires_at: datetime | None
    last_update: datetime | None
    """When the agent last sent an acceptable message, changed or not."""
    last_error: SpiffeError | None
    last_error_at: datetime | None
    updates: int
    """How many different contexts were published."""
    rejected: int
    """How many messages were refused."""
    reconnects: int
    """How many further streams were attempted after the first."""
    failures: int
    """How many streams in a row have failed."""
    problems: tuple[SpiffeError, ...]
    """Which foreign bundles the last message held that could not be used."""

    @property
    def connected(self) -> bool:
        """Whether a stream is open on which news would arrive."""
        return self.phase is SourcePhase.CONNECTED
