"""A clock that a test sets: for `TestCA(clock=…)`, and for everything that takes `now`."""

from datetime import UTC, datetime, timedelta

__all__ = ["Clock"]


class Clock:
    """Says what time it is when it is called, and goes only when it is told to::

        clock = Clock()
        ca = TestCA("example.org", clock=clock)
        svid = ca.svid(ttl=timedelta(minutes=5))
        assert svid.is_expired(clock.advance(minutes=6))

    TLS itself asks the system what time it is: for handshakes with expired certificates let the CA's clock go back.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self._now = datetime.now(UTC) if now is None else now
        if self._now.tzinfo is None:
            raise ValueError("a clock needs a time with a time zone, such as datetime.now(UTC)")

    def __call__(self) -> datetime:
        """Return the time it is."""
        return self._now

    def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime:
        """Let time pass, or go back where the sum is negative; returns the time it is then."""
        self._now += timedelta(hours=hours, minutes=minutes, seconds=seconds)
        return self._now

    def __repr__(self) -> str:
        return f"<Clock {self._now.isoformat()}>"
