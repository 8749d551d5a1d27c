"""Counted allowances: events in a time, bytes held. Pure: time is an argument."""

from authsec_sdk.rpc.status import GRPCError, Status


class Allowance:
    """So many events in a window of time, refilled evenly (a token bucket)."""

    __slots__ = ("_level", "_rate", "_size", "_updated")

    def __init__(self, size: int, window: float, now: float) -> None:
        self._size = size
        self._rate = size / window
        self._level = float(size)
        self._updated = now

    def take(self, now: float, count: int = 1) -> bool:
        """Count `count` events; False when that is more than is allowed."""
        self._level = min(float(self._size), self._level + (now - self._updated) * self._rate)
        self._updated = now
        self._level -= count
        return self._level >= 0

    def give(self, count: int) -> None:
        """Allow `count` events more, never more than a full window."""
        self._level = min(float(self._size), self._level + count)


class ByteBudget:
    """Bytes gathered for messages that are not complete, within a bound of its own and that of its parent."""

    __slots__ = ("_limit", "_parent", "used")

    def __init__(self, limit: int, parent: "ByteBudget | None" = None) -> None:
        self._limit = limit
        self._parent = parent
        self.used = 0

    def take(self, count: int) -> None:
        """Hold `count` bytes more. Raises: GRPCError RESOURCE_EXHAUSTED, and holds none, beyond a bound."""
        if self.used + count > self._limit:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "too many unfinished messages")
        if self._parent is not None:
            self._parent.take(count)
        self.used += count

    def give(self, count: int) -> None:
        """Let `count` bytes go."""
        self.used -= count
        if self._parent is not None:
            self._parent.give(count)
