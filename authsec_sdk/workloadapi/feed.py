"""What all feeds have in common: a coroutine in the shared thread, the newest value it has brought, and who waits."""

import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from authsec_sdk.errors import SourceClosedError, SpiffeError
from authsec_sdk.spiffe import SpiffeID, X509Context
from authsec_sdk.telemetry import (
    Event,
    Observer,
    SourceClosed,
    SourceConnected,
    SourceLost,
    SourceName,
    SourceUpdated,
    UpdateRejected,
    tell,
)
from authsec_sdk.workloadapi.bell import Bells
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.status import Progress, SourcePhase
from authsec_sdk.workloadapi.thread import Job, start_job

__all__ = ["Feed", "context_identity"]

_logger = logging.getLogger(__name__)
_Value = TypeVar("_Value")


class Feed(ABC, Generic[_Value]):
    """Written by the shared thread, read by everybody else: each attribute is replaced whole, so reads need no lock.

    A subclass is one way to get values: its `_run` calls `_connecting`, `_publish`, `_reject` and `_lose` as things
    happen. What those do holds for every source: the newest value stays whatever else happens, who waits is woken after
    each change, listeners and the observer hear of it, and a forked child begins anew with what was known.
    """

    def __init__(self, name: SourceName, observer: Observer | None) -> None:
        self.name = name
        self.observer = observer
        self.value: _Value | None = None
        self.progress = Progress()
        self.closed = False
        self.bells = Bells()
        self._job: Job | None = None
        self._live = False  # whether something acceptable has arrived since it was last cut off
        self._listeners: tuple[Callable[[_Value], None], ...] = ()
        _FEEDS.add(self)

    @property
    def running(self) -> bool:
        """Whether the thread works on it. Not so before the start, after the end, and in a forked child."""
        job = self._job
        return job is not None and not job.ended

    def start(self) -> bool:
        """Begin, in the thread, and say whether it had not begun before.

        Raises:
            SourceClosedError: it was closed.
        """
        with at_fork.lock:
            if self.closed:
                raise SourceClosedError("this source is closed; make another one")
            if self.running:
                return False
            self._job = start_job(self._run)
            return True

    def close(self) -> Job | None:
        """Forget everything and ask for the end; returns what can be waited for. Again, the same."""
        with at_fork.lock:
            again, self.closed = self.closed, True
            self.value = None
            self._listeners = ()
            job = self._job
        if job is not None:
            job.stop()
        self.bells.ring()
        if not again:
            self._tell(SourceClosed(self.name))
        return job

    def add_listener(self, listener: Callable[[_Value], None]) -> Callable[[], None]:
        """Call back in the thread with each new value, before anybody is woken; returns what ends that."""

        def entry(value: _Value) -> None:  # an object of this call, so that only it is removed
            listener(value)

        def remove() -> None:
            with at_fork.lock:
                self._listeners = tuple(known for known in self._listeners if known is not entry)

        with at_fork.lock:
            if not self.closed:
                self._listeners = (*self._listeners, entry)
        return remove

    def forked(self) -> None:
        """In a forked child: the thread and those who waited are in the parent. What was known is kept."""
        self._job = None
        self._live = False
        self.bells.forget()
        self.progress = replace(self.progress, phase=SourcePhase.NEW, attempts=0)

    # --- for subclasses: in the thread -----------------------------------------------------------------------------

    @abstractmethod
    async def _run(self) -> None:
        """Bring values until cancelled."""

    def _settle(self, value: _Value) -> None:
        """Do what must be done by the time anybody sees this value; under `at_fork.lock`: neither waits nor raises."""

    def _identity(self, value: _Value) -> tuple[SpiffeID | None, str | None, datetime | None]:
        """Return whose the value is, its serial and its end, for the observer."""
        del value
        return None, None, None

    def _connecting(self, attempt: int) -> None:
        self.progress = replace(self.progress, phase=SourcePhase.CONNECTING, attempts=attempt)

    def _publish(self, value: _Value, problems: tuple[SpiffeError, ...] = ()) -> None:
        """Make this the newest value, unless it is what there is already."""
        with at_fork.delayed():
            with at_fork.lock:
                if self.closed:
                    return
                changed = value != self.value
                live, self._live = self._live, True
                self.progress = progress = replace(
                    self.progress,
                    phase=SourcePhase.CONNECTED,
                    failures=0,
                    updates=self.progress.updates + changed,
                    last_update=datetime.now(UTC),
                    problems=problems,
                )
                listeners = self._listeners if changed else ()
                if changed:
                    self.value = value
                    self._settle(value)
            for listener in listeners:
                try:
                    listener(value)
                except Exception:
                    _logger.exception("a new identity could not be taken by a TLS context, which keeps its old one")
        if self.observer is not None:
            if not live:
                self._tell(SourceConnected(self.name))
            if changed:
                self._tell(SourceUpdated(self.name, progress.updates, *self._identity(value)))
        self.bells.ring()  # last, so that a program which waits and then closes has counted what it waited for

    def _reject(self, error: SpiffeError) -> None:
        """Note that what arrived breaks a rule; what was known stays."""
        self._failed(replace(self.progress, phase=SourcePhase.CONNECTED, rejected=self.progress.rejected + 1), error)
        self._tell(UpdateRejected(self.name, error))

    def _lose(self, phase: SourcePhase, failures: int, error: SpiffeError, retry_in: float) -> None:
        """Note that nothing will arrive until another attempt succeeds."""
        self._failed(replace(self.progress, phase=phase, failures=failures), error)
        self._live = False
        self._tell(SourceLost(self.name, error, failures, retry_in))

    def _failed(self, progress: Progress, error: SpiffeError) -> None:
        self.progress = replace(progress, last_error=error, last_error_at=datetime.now(UTC))
        self.bells.ring()

    def _tell(self, event: Event) -> None:
        if self.observer is not None:
            with at_fork.delayed():  # a lock of the observer's, held here, would stay locked in the child
                if not self.closed or isinstance(event, SourceClosed):  # which is the last one
                    tell(self.observer, event)


def context_identity(context: X509Context | None) -> tuple[SpiffeID | None, str | None, datetime | None]:
    """Return whose a context is, the serial of the SVID in use (hexadecimal) and its end; None each without one."""
    if context is None or not context.svids:
        return None, None, None
    svid = context.svids[0]
    return svid.id, f"{svid.leaf.serial_number:x}", svid.not_after


_FEEDS: weakref.WeakSet[Feed[Any]] = weakref.WeakSet()


def _in_child() -> None:
    for feed in tuple(_FEEDS):
        feed.forked()


at_fork.register(lambda: (), _in_child)
