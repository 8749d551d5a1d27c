"""Keep a stream of the agent open for ever: what to do after each end is decided purely, and the loop only does it."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from authsec_sdk.rpc import Channel
from authsec_sdk.workloadapi.address import Endpoint
from authsec_sdk.workloadapi.backoff import BackoffStrategy, delay_of
from authsec_sdk.workloadapi.failure import BACKOFFS, Failure, FailureKind, end_of_stream, explain
from authsec_sdk.workloadapi.stream import Rejected

__all__ = ["Call", "Connecting", "Lost", "Received", "Retries", "watch"]

STABLE_AFTER = 5.0
"""A stream that delivered something and lived for so many seconds ends a row of failures. One that delivers and breaks
at once does not, or an agent that restarts in a loop would be called in a loop."""

_Update = TypeVar("_Update")


@dataclass(frozen=True, slots=True)
class Connecting:
    """A new stream is being opened. `attempt` counts from 1 for as long as the watch lives."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Received(Generic[_Update]):
    """The agent sent this."""

    update: _Update


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream is gone, or was never there; the next attempt comes after `retry_in` seconds."""

    failure: Failure
    failures: int
    retry_in: float


@dataclass(frozen=True, slots=True)
class Retries:
    """Failures of one kind in a row. Pure: each end of a stream makes a new value."""

    kind: FailureKind | None = None
    failures: int = 0

    def after(self, kind: FailureKind, *, delivered: bool, lived: float) -> "Retries":
        """Count one more failure; another kind, or a stream that was stable before it, begins a new row."""
        if kind is not self.kind or (delivered and lived >= STABLE_AFTER):
            return Retries(kind, 1)
        return Retries(kind, self.failures + 1)

    def wait(self, backoffs: Mapping[FailureKind, BackoffStrategy], random_number: float) -> float:
        """Return the seconds to wait before the next attempt, for a random number in [0, 1)."""
        return 0.0 if self.kind is None else delay_of(backoffs[self.kind], self.failures, random_number)


@dataclass(frozen=True, slots=True)
class Call(Generic[_Update]):
    """What to watch: where, through which channel (a new one each time), which stream of it, and how patiently."""

    endpoint: Endpoint
    channel: Callable[[], Channel]
    updates: Callable[[Channel], AsyncGenerator[_Update | Rejected, None]]
    backoffs: Mapping[FailureKind, BackoffStrategy] = field(default_factory=lambda: BACKOFFS)


async def watch(call: Call[_Update]) -> AsyncGenerator[Received[_Update] | Rejected | Connecting | Lost, None]:
    """Yield updates, and everything else that happens, until cancelled or closed (`contextlib.aclosing`).

    Each attempt opens the socket by its path anew, for an agent that starts again makes a new one there. Every failure
    is retried; whoever watches may stop instead. Nothing is raised but what cancels.
    """
    retries, attempt = Retries(), 0
    while True:
        attempt += 1
        yield Connecting(attempt)
        began, delivered = time.monotonic(), False
        try:
            async with call.channel() as channel, aclosing(call.updates(channel)) as updates:
                async for update in updates:
                    if isinstance(update, Rejected):
                        yield update
                    else:
                        delivered = True
                        yield Received(update)
            failure = end_of_stream(call.endpoint)
        except Exception as error:  # noqa: BLE001 - whatever breaks a stream, the next attempt may heal
            failure = explain(error, call.endpoint)
        retries = retries.after(failure.kind, delivered=delivered, lived=time.monotonic() - began)
        delay = retries.wait(call.backoffs, random.random())  # noqa: S311 - spreads load, guards nothing
        yield Lost(failure, retries.failures, delay)
        await asyncio.sleep(delay)
