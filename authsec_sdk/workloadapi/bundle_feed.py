"""One stream of bundles of one kind, kept open in the shared thread, and the newest it has brought."""

import logging
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from authsec_sdk.errors import SourceClosedError, SpiffeError
from authsec_sdk.rpc import Channel
from authsec_sdk.spiffe import BundleSet
from authsec_sdk.spiffe.bundle import Bundle
from authsec_sdk.workloadapi.address import Endpoint
from authsec_sdk.workloadapi.bell import Bells
from authsec_sdk.workloadapi.connection import open_channel
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.report import Reporter
from authsec_sdk.workloadapi.status import Progress, SourcePhase
from authsec_sdk.workloadapi.stream import Rejected
from authsec_sdk.workloadapi.thread import Job, start_job
from authsec_sdk.workloadapi.watch import Call, Connecting, Lost, Received, watch

__all__ = ["BundleFeed", "BundleStream", "Dialling"]

_PHASES = {
    FailureKind.UNAVAILABLE: SourcePhase.UNAVAILABLE,
    FailureKind.NO_IDENTITY: SourcePhase.NO_IDENTITY,
    FailureKind.REFUSED: SourcePhase.REFUSED,
}
_logger = logging.getLogger(__name__)

_Bundle = TypeVar("_Bundle", bound=Bundle)
_Bundle_co = TypeVar("_Bundle_co", bound=Bundle, covariant=True)


class _Update(Protocol[_Bundle_co]):
    """One message of the stream."""

    @property
    def bundles(self) -> BundleSet[_Bundle_co]: ...

    @property
    def problems(self) -> tuple[SpiffeError, ...]: ...


BundleStream = Callable[[Channel, UpdateLimits], AsyncGenerator[_Update[_Bundle] | Rejected, None]]
"""Which stream to watch, such as `token_calls.jwt_bundle_updates`."""


@dataclass(frozen=True, slots=True)
class Dialling:
    """How to reach the agent, and how much to take from it."""

    endpoint: Endpoint
    limits: UpdateLimits
    expected_agent_uid: int | None

    def channel(self) -> Channel:
        """Return a new channel, which connects on its first call."""
        return open_channel(self.endpoint, self.limits, self.expected_agent_uid)


class BundleFeed(Generic[_Bundle]):
    """Written by the shared thread, read by everybody else: each attribute is replaced whole, so reads need no lock.

    `on_news` is called in the thread with each new set of bundles, under `at_fork.lock`: it neither waits nor raises.
    `after_news` is called after that, without the lock and before anybody is woken, with forks held back.
    """

    def __init__(
        self,
        dialling: Dialling,
        stream: BundleStream[_Bundle],
        on_news: Callable[[BundleSet[_Bundle]], None] = lambda _: None,
        after_news: Callable[[BundleSet[_Bundle]], None] = lambda _: None,
    ) -> None:
        self._dialling = dialling
        self._stream = stream
        self._on_news = on_news
        self._after_news = after_news
        self._job: Job | None = None
        self.bundles: BundleSet[_Bundle] | None = None
        self.progress = Progress()
        self.closed = False
        self.bells = Bells()
        _FEEDS.add(self)

    @property
    def running(self) -> bool:
        """Whether the thread works on it. Not so before the start, after the end, and in a forked child."""
        job = self._job
        return job is not None and not job.ended

    def start(self) -> None:
        """Open the stream, in the thread. Again, a no-op.

        Raises:
            SourceClosedError: it was closed.
        """
        with at_fork.lock:
            if self.closed:
                raise SourceClosedError("this source is closed; make another one")
            if not self.running:
                self._job = start_job(self._run)

    def close(self) -> Job | None:
        """Forget everything and ask for the end of the stream; returns what can be waited for. Again, the same."""
        with at_fork.lock:
            self.closed = True
            self.bundles = None
            job = self._job
        if job is not None:
            job.stop()
        self.bells.ring()
        return job

    def forked(self) -> None:
        """In a forked child: the thread and those who waited are in the parent. What was known is kept."""
        self._job = None
        self.bells.forget()
        self.progress = replace(self.progress, phase=SourcePhase.NEW, attempts=0)

    # --- in the thread ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        dialling = self._dialling
        reporter = Reporter(dialling.endpoint)
        call = Call(dialling.endpoint, dialling.channel, lambda channel: self._stream(channel, dialling.limits))
        async with aclosing(watch(call)) as events:
            async for event in events:
                match event:
                    case Connecting(attempt):
                        self.progress = replace(self.progress, phase=SourcePhase.CONNECTING, attempts=attempt)
                    case Received(update):
                        reporter.updated(update.problems)
                        with at_fork.delayed():
                            self._publish(update)
                        self.bells.ring()
                    case Rejected(error):
                        reporter.rejected(error)
                        progress = replace(
                            self.progress, phase=SourcePhase.CONNECTED, rejected=self.progress.rejected + 1
                        )
                        self._failed(progress, error)
                    case Lost(failure, failures):
                        reporter.lost(event)
                        self._failed(
                            replace(self.progress, phase=_PHASES[failure.kind], failures=failures), failure.error
                        )

    def _publish(self, update: _Update[_Bundle]) -> None:
        with at_fork.lock:
            if self.closed:
                return
            changed = update.bundles != self.bundles
            self.progress = replace(
                self.progress,
                phase=SourcePhase.CONNECTED,
                failures=0,
                updates=self.progress.updates + changed,
                last_update=datetime.now(UTC),
                problems=update.problems,
            )
            if changed:
                self.bundles = update.bundles
                self._on_news(update.bundles)  # under the lock: who has seen these bundles finds it done
        if changed:
            self._after_news(update.bundles)

    def _failed(self, progress: Progress, error: SpiffeError) -> None:
        self.progress = replace(progress, last_error=error, last_error_at=datetime.now(UTC))
        self.bells.ring()


_FEEDS: weakref.WeakSet[BundleFeed[Any]] = weakref.WeakSet()


def _in_child() -> None:
    for feed in tuple(_FEEDS):
        feed.forked()


at_fork.register(lambda: (), _in_child)
