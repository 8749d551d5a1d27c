"""How a source is doing, as a value: for health endpoints, metrics and people; pure."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.workloadapi.address import Endpoint

__all__ = ["Progress", "SourcePhase", "SourceState", "SourceStatus", "state_of", "status_of"]


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


class SourceState(enum.Enum):
    """What a source is good for: one word for probes and dashboards. `state_of` is the whole table."""

    INITIALIZING = "initializing"
    """There is nothing yet, and nothing has gone wrong."""

    FAILED = "failed"
    """There is nothing yet, and the last attempt to get it failed. It is tried again."""

    READY = "ready"
    """What there is may be used, and news will arrive."""

    STALE = "stale"
    """What there is may be used; whether there is newer is not known, for the source is cut off."""

    EXPIRED = "expired"
    """There is an SVID, whose time is over: peers refuse it."""

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
    """A source at one moment, `at`.

    `healthy` says that there is something which has not expired: what a readiness probe asks. It stays true while the
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

    state: SourceState
    """All of it in one word."""
    at: datetime

    @property
    def expires_in(self) -> timedelta | None:
        """How long the SVID in use is still good, less than nothing once it has expired; None where there is none."""
        return None if self.expires_at is None else self.expires_at - self.at

    @property
    def connected(self) -> bool:
        """Whether a stream is open on which news would arrive."""
        return self.phase is SourcePhase.CONNECTED


def state_of(
    phase: SourcePhase, *, known: bool, failures: int, expires_at: datetime | None, now: datetime
) -> SourceState:
    """Say what a source is good for; `known` if it has brought something, `failures` if the last attempts failed."""
    if phase is SourcePhase.CLOSED:
        return SourceState.CLOSED
    if not known:
        return SourceState.FAILED if failures else SourceState.INITIALIZING
    if expires_at is not None and now >= expires_at:
        return SourceState.EXPIRED
    return SourceState.READY if phase is SourcePhase.CONNECTED else SourceState.STALE


def status_of(
    endpoint: Endpoint,
    progress: Progress,
    *,
    known: bool,
    closed: bool,
    now: datetime,
    spiffe_id: SpiffeID | None = None,
    expires_at: datetime | None = None,
) -> SourceStatus:
    """Put together what a source's thread has seen, and what it has brought."""
    phase = SourcePhase.CLOSED if closed else progress.phase
    failures = progress.failures or (progress.rejected if not known else 0)
    state = state_of(phase, known=known, failures=failures, expires_at=expires_at, now=now)
    return SourceStatus(
        endpoint=endpoint,
        phase=phase,
        healthy=state in (SourceState.READY, SourceState.STALE),
        spiffe_id=spiffe_id,
        expires_at=expires_at,
        last_update=progress.last_update,
        last_error=progress.last_error,
        last_error_at=progress.last_error_at,
        updates=progress.updates,
        rejected=progress.rejected,
        reconnects=max(0, progress.attempts - 1),
        failures=progress.failures,
        problems=progress.problems,
        state=state,
        at=now,
    )
