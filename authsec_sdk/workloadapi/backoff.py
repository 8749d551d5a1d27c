"""How long to wait before asking the agent again: full jitter, capped; pure."""

import math
from dataclasses import dataclass
from typing import Protocol

__all__ = ["AFTER_REFUSAL", "WITHOUT_AGENT", "WITHOUT_IDENTITY", "Backoff", "BackoffStrategy", "delay_of"]

_MAX_DOUBLINGS = 60  # far beyond any cap, and a float holds it


class BackoffStrategy(Protocol):
    """How long to wait after failures: `Backoff`, or one of your own."""

    def delay(self, failures: int, random: float, /) -> float:
        """Return the seconds to wait after so many failures in a row (from 1), for a random number in [0, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from `base` to `cap` seconds and waits a random part of that, but never less than `floor`.

    Full jitter, so that the workloads of a host whose agent restarts do not come back all at once.
    """

    base: float
    cap: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.base <= self.cap or self.base == 0:
            raise ValueError("a backoff needs 0 <= floor <= base <= cap and a base above zero, in seconds")

    def delay(self, failures: int, random: float) -> float:
        """Return the seconds to wait after so many failures in a row (from 1), for a random number in [0, 1)."""
        ceiling = min(self.cap, self.base * 2.0 ** min(max(failures - 1, 0), _MAX_DOUBLINGS))
        return max(self.floor, random * ceiling)


WITHOUT_AGENT = Backoff(base=0.2, cap=5.0)
"""The agent is away or hung up. Never longer than 5 s: an agent restarts more often than an SVID is renewed."""

WITHOUT_IDENTITY = Backoff(base=1.0, cap=5.0, floor=0.25)
"""The agent is there and denies an identity: it attests the caller each time, so never at once."""

AFTER_REFUSAL = Backoff(base=30.0, cap=60.0, floor=10.0)
"""The agent says that the call itself is wrong. Only another agent behind the same address mends that."""

SHORTEST, LONGEST = 0.01, 3600.0
"""Between these every strategy is kept, in seconds: an agent is never called in a tight loop, nor given up."""


def delay_of(strategy: BackoffStrategy, failures: int, random: float) -> float:
    """Return what a strategy says, within bounds; one that fails or talks nonsense waits as `WITHOUT_AGENT` does."""
    try:
        delay = float(strategy.delay(failures, random))
    except Exception:  # noqa: BLE001 - somebody's own code, in the thread of all sources
        delay = math.nan
    if math.isnan(delay):
        delay = WITHOUT_AGENT.delay(failures, random)
    return min(LONGEST, max(SHORTEST, delay))
