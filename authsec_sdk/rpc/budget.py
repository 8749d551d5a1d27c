"""Counted allowances: events in a time, bytes held. Pure: time is an argument."""

from collections.abc import Callable

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
    """Bytes gathered for messages that are not complete, within a bound of its own and that of its parent.

    When the parent is full, `on_full` of the parent is asked to free something for the child that wants more, and is
    asked again until there is room or it answers False: so it is not the next small message that pays for a hoard.
    """

    __slots__ = ("_closed", "_limit", "_parent", "on_full", "used")

    def __init__(self, limit: int, parent: "ByteBudget | None" = None) -> None:
        self._limit = limit
        self._parent = parent
        self._closed = False
        self.on_full: Callable[[ByteBudget], bool] = lambda _: False
        self.used = 0

    def take(self, count: int) -> None:
        """Hold `count` bytes more. Raises: GRPCError RESOURCE_EXHAUSTED, and holds none, beyond a bound."""
        if self._closed or self.used + count > self._limit:
            raise _exhausted()
        parent = self._parent
        if parent is not None:
            while parent.used + count > parent._limit:
                if not parent.on_full(self):
                    raise _exhausted()
            parent.used += count
        self.used += count

    def give(self, count: int) -> None:
        """Let `count` bytes go."""
        if not self._closed:
            self.used -= count
            if self._parent is not None:
                self._parent.used -= count

    def close(self) -> None:
        """Let everything go; nothing is held from here on, and what is given back later counts no more."""
        self.give(self.used)
        self._closed = True


def _exhausted() -> GRPCError:
    return GRPCError(Status.RESOURCE_EXHAUSTED, "too many unfinished messages")
