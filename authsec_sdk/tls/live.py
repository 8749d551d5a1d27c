"""What connections must go on satisfying after their handshake: rules for their age, and the guard that keeps them.

Trust and policy are rechecked by `PeerVerifier.recheck`, which costs an open connection nothing between two rechecks.
Only a maximum age or an expiry needs a guard on each read and write.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from authsec_sdk.tls.errors import ConnectionEndedError, ContextSettingError

__all__ = ["Lifetime", "LifetimeGuard", "LiveChecks"]

NEVER: Final = math.inf


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a connection should be let go of, and when it ends; seconds of a steady clock."""

    drain_at: float = NEVER
    end_at: float = NEVER


@dataclass(frozen=True, slots=True)
class LiveChecks:
    """What a context goes on demanding of its open connections. Nothing, as given: a rotation disturbs nobody.

    A connection that fails ends with `ConnectionEndedError`, without another byte: a blocking socket is woken at once,
    every other one at its next read or write. So an idle connection of an event loop stays open, and useless.
    """

    recheck: bool = False
    """Judge each peer again whenever the source publishes: by the newest bundles, and by the authorizer."""

    expiry: bool = False
    """End a connection when the first certificate of its peer's chain expires."""

    maximum_age: float | None = None
    """Seconds after which `drain_due` tells to let go of a connection."""

    jitter: float = 0.1
    """The share by which `maximum_age` varies either way, so that not all connections of a start end together."""

    grace: float = 30.0
    """Seconds between `drain_due` and the end, for what is under way."""

    def __post_init__(self) -> None:
        if self.maximum_age is not None and not self.maximum_age > 0:
            raise ContextSettingError("maximum_age must be positive")
        if not 0 <= self.jitter < 1 or not self.grace >= 0:
            raise ContextSettingError("jitter must be at least 0 and below 1, grace not negative")

    @property
    def bounds_lifetime(self) -> bool:
        """Whether connections need a guard."""
        return self.expiry or self.maximum_age is not None

    def lifetime(self, now: float, *, expires_in: float | None, dice: float) -> Lifetime:
        """Decide how long a connection that begins `now` may live. `dice` is drawn by the caller from [-1, 1]."""
        drain_at = end_at = NEVER
        if self.maximum_age is not None:
            drain_at = now + self.maximum_age * (1 + self.jitter * dice)
            end_at = drain_at + self.grace
        if self.expiry and expires_in is not None:
            end_at = min(end_at, now + expires_in)
            drain_at = max(now, min(drain_at, end_at - self.grace))
        return Lifetime(drain_at, end_at)


class LifetimeGuard:
    """Stands before OpenSSL's object of a connection whose lifetime is bounded, and ends it in time."""

    __slots__ = ("_end", "_end_at", "_owner", "_raw")

    def __init__(self, raw: Any, owner: Any, end_at: float, end: Callable[[Any, str], object]) -> None:
        self._raw = raw
        self._owner = weakref.ref(owner)
        self._end_at = end_at
        self._end = end

    def read(self, *args: Any) -> Any:
        """Read, in time."""
        if time.monotonic() >= self._end_at:
            self._over()
        return self._raw.read(*args)

    def write(self, data: Any, /) -> int:
        """Write, in time."""
        if time.monotonic() >= self._end_at:
            self._over()
        written: int = self._raw.write(data)
        return written

    def _over(self) -> NoReturn:
        text = "this connection reached its maximum age, or its peer's certificate expired; open a new one"
        owner = self._owner()
        if owner is not None:
            self._end(owner, text)
        raise ConnectionEndedError(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
