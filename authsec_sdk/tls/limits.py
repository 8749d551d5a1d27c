"""What one TLS context may cost, whatever a federated domain publishes: caps, and the bucket that counts rebuilds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TLSLimits", "TokenBucket"]


@dataclass(frozen=True, slots=True)
class TLSLimits:
    """Caps of a context and of its views. What goes beyond one is left out or put off, and the log says so.

    Building a generation takes about 1 ms and 0.14 ms more for each authority; keeping it takes about 20 KiB and 5 KiB
    more for each.
    """

    authorities_per_domain: int = 100
    """A domain with more is set aside whole: which of them to trust cannot be guessed."""

    authorities: int = 1000
    """Over all domains; the domains that would exceed it are set aside, the own one last, the newest first."""

    rebuilds_per_second: float = 20.0
    """Updates beyond this (after a burst of five seconds' worth) are taken up together, by the next handshake."""

    live_generations: int = 64
    """A connection keeps the generation it began with alive. Beyond this, connections of the oldest one are ended."""

    handshake_age: float = 5.0
    """Seconds after which a handshake must satisfy the newest bundles too, and not only those it began with."""

    def __post_init__(self) -> None:
        if min(self.authorities_per_domain, self.authorities, self.live_generations) < 1:
            raise ValueError("a limit of TLSLimits is below 1: nothing could connect")
        if self.rebuilds_per_second <= 0 or self.handshake_age < 0:
            raise ValueError("rebuilds_per_second must be positive, handshake_age not negative")


class TokenBucket:
    """Says whether something may happen now, so that it happens at most `rate` times a second after a burst.

    Not safe among threads; its owner holds a lock. `now` is the time in seconds of any steady clock.
    """

    __slots__ = ("_burst", "_rate", "_seen", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._tokens = self._burst
        self._seen: float | None = None

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        if self._seen is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._seen) * self._rate)
        self._seen = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
