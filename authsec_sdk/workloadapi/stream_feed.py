"""One stream of the Workload API, kept open in the shared thread, and the newest value it has brought."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from authsec_sdk.errors import SpiffeError
from authsec_sdk.rpc import Channel
from authsec_sdk.telemetry import Observer, SourceName
from authsec_sdk.workloadapi.address import Endpoint, TCPEndpoint
from authsec_sdk.workloadapi.backoff import BackoffStrategy
from authsec_sdk.workloadapi.connection import open_channel
from authsec_sdk.workloadapi.failure import BACKOFFS, FailureKind
from authsec_sdk.workloadapi.feed import Feed
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.report import Reporter
from authsec_sdk.workloadapi.status import SourcePhase
from authsec_sdk.workloadapi.stream import Rejected
from authsec_sdk.workloadapi.watch import Call, Connecting, Lost, Received, watch

__all__ = ["Dialling", "Stream", "StreamFeed"]

_PHASES = {
    FailureKind.UNAVAILABLE: SourcePhase.UNAVAILABLE,
    FailureKind.NO_IDENTITY: SourcePhase.NO_IDENTITY,
    FailureKind.REFUSED: SourcePhase.REFUSED,
}
_logger = logging.getLogger(__name__)


class _HasProblems(Protocol):
    """One message of a stream: parts of it may have been left out."""

    @property
    def problems(self) -> tuple[SpiffeError, ...]: ...


_Update = TypeVar("_Update", bound=_HasProblems)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Dialling:
    """How to reach the agent, how much to take from it, and how long to leave it alone after failures."""

    endpoint: Endpoint
    limits: UpdateLimits
    expected_agent_uid: int | None
    backoffs: Mapping[FailureKind, BackoffStrategy]

    @classmethod
    def of(
        cls,
        endpoint: Endpoint,
        limits: UpdateLimits | None,
        expected_agent_uid: int | None,
        backoffs: Mapping[FailureKind, BackoffStrategy] | None,
    ) -> "Dialling":
        """Fill in what is not said."""
        return cls(endpoint, limits or UpdateLimits(), expected_agent_uid, {**BACKOFFS, **(backoffs or {})})

    def channel(self) -> Channel:
        """Return a new channel, which connects on its first call."""
        return open_channel(self.endpoint, self.limits, self.expected_agent_uid)


@dataclass(frozen=True, slots=True)
class Stream(Generic[_Update, _Value]):
    """Which stream to watch, and what of its messages to keep.

    `take` returns the value of a message, or raises a SpiffeError to refuse it; it runs in the thread. Of an `optional`
    profile an agent may know nothing: one that refuses the call is not asked again (Workload API section 7).
    """

    kind: str
    updates: Callable[[Channel, UpdateLimits], AsyncGenerator[_Update | Rejected, None]]
    take: Callable[[_Update], _Value]
    carries_keys: bool = False
    optional: bool = False


class StreamFeed(Feed[_Value], Generic[_Update, _Value]):
    """A feed over `watch`: reopens its stream without end, and tells the log why."""

    def __init__(self, dialling: Dialling, stream: Stream[_Update, _Value], observer: Observer | None) -> None:
        super().__init__(SourceName(stream.kind, str(dialling.endpoint)), observer)
        self._dialling = dialling
        self._stream = stream

    def start(self) -> bool:
        """Open the stream, in the thread; raises as `Feed.start`."""
        began = super().start()
        if began and self._stream.carries_keys and isinstance(self._dialling.endpoint, TCPEndpoint):
            _logger.warning("private keys travel in plain text from the agent endpoint=%s", self._dialling.endpoint)
        return began

    async def _run(self) -> None:
        dialling, stream = self._dialling, self._stream
        reporter = Reporter(dialling.endpoint)
        call = Call(
            dialling.endpoint,
            dialling.channel,
            lambda channel: stream.updates(channel, dialling.limits),
            dialling.backoffs,
        )
        async with aclosing(watch(call)) as events:
            async for event in events:
                match event:
                    case Connecting(attempt):
                        self._connecting(attempt)
                    case Received(update):
                        self._take(update, reporter)
                    case Rejected(error):
                        reporter.rejected(error)
                        self._reject(error)
                    case Lost(failure, failures) if stream.optional and failure.kind is FailureKind.REFUSED:
                        final = replace(event, retry_in=math.inf)
                        reporter.lost(final)
                        self._lose(SourcePhase.REFUSED, failures, failure.error, final.retry_in)
                        await asyncio.Event().wait()  # until it is closed: whoever waits or reads starts nothing anew
                    case Lost(failure, failures, retry_in):
                        reporter.lost(event)
                        self._lose(_PHASES[failure.kind], failures, failure.error, retry_in)

    def _take(self, update: _Update, reporter: Reporter) -> None:
        try:
            value = self._stream.take(update)
        except SpiffeError as error:
            refusal = error.with_traceback(None)
            reporter.rejected(refusal)
            self._reject(refusal)
        else:
            reporter.updated(update.problems)
            self._publish(value, update.problems)
