"""When the agent has lost trust in its servers for long enough to ask for its first trust again: a decision, pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self

DEFAULT_DELAY: Final = timedelta(minutes=10)


class RebootstrapMode(StrEnum):
    """What `rebootstrap_mode` says."""

    NEVER = "never"
    AUTO = "auto"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class RebootstrapSettings:
    """Whether to fetch the first trust again, and how long servers must have been strangers before.

    The delay is what an attacker between agent and server would have to hold out; a server that is trusted begins it
    anew.
    """

    mode: RebootstrapMode = RebootstrapMode.NEVER
    delay: timedelta = DEFAULT_DELAY


@dataclass(frozen=True, slots=True)
class Distrust:
    """Since when every server that answered was a stranger; None while the last one was not."""

    since: datetime | None = None

    def met_a_stranger(self, now: datetime) -> Self:
        """The same, after a server whose chain leads to no authority we know."""
        return self if self.since is not None else type(self)(now)

    def is_enough(self, settings: RebootstrapSettings, now: datetime) -> bool:
        """Whether to begin with the first trust again."""
        if settings.mode is RebootstrapMode.NEVER or self.since is None:
            return False
        return now - self.since >= settings.delay


@dataclass(frozen=True, slots=True)
class BootstrapAttempt:
    """What is told to whom the first trust is fetched from, if that is a service of this host."""

    number: int
    started: datetime
    again: bool = False
    """Whether there was trust before, and it was lost."""

    @property
    def mode(self) -> str:
        """The word for it."""
        return "rebootstrap" if self.again else "bootstrap"
