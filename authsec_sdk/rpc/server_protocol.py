"""The server's side of one HTTP/2 connection: what a peer may do, counted; when it has to go, carried out."""

import asyncio
from dataclasses import dataclass

from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, PingAckReceived, RemoteSettingsChanged, RequestReceived
from h2.exceptions import DenialOfServiceError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
)

from authsec_sdk.rpc.budget import Allowance, ByteBudget
from authsec_sdk.rpc.calls import Calls, Service
from authsec_sdk.rpc.connection import Connection, Processor, monotonic
from authsec_sdk.rpc.http2 import FRAME_SIZE, LAST_POSSIBLE_STREAM, FrameBounds, Http2
from authsec_sdk.rpc.paced_log import PacedLog
from authsec_sdk.rpc.peer import Peer
from authsec_sdk.rpc.protocol import Http2Protocol
from authsec_sdk.rpc.status import CallTerminatedError, Status
from authsec_sdk.rpc.watch import Verdict, Vitals, judge

GOAWAY_PING = b"goaway!!"
ALIVE_PING = b"alive???"


@dataclass(slots=True)
class ServerStats:
    """What a server has seen since it started; read it, do not write it."""

    connections_accepted: int = 0
    connections_refused: int = 0
    connections_evicted: int = 0
    connections_dropped: int = 0
    handshakes_failed: int = 0
    protocol_errors: int = 0
    calls_started: int = 0
    calls_refused: int = 0
    calls_under_way: int = 0


class ServerConnection(Connection):
    """A connection that earns its peer allowance for control frames by what we send."""

    protocol: "ServerProtocol"

    def headers_send_process(self) -> None:
        """Headers have gone out."""
        self.protocol.meter.answered()

    def data_send_process(self) -> None:
        """Data has gone out."""
        self.protocol.meter.answered(data=True)


class Meter:
    """Counts the frames that cost us more than the peer. Raises h2's DenialOfServiceError: ENHANCE_YOUR_CALM."""

    def __init__(self, protocol: "ServerProtocol") -> None:
        limits = protocol.service.limits
        now = monotonic()
        self._protocol = protocol
        self._limits = limits
        self._control = Allowance(limits.max_control_frames, limits.control_window, now)
        self._resets = Allowance(limits.max_resets, limits.reset_window, now)
        self._last_ping: float | None = None
        self._strikes = 0
        self.frames = 0
        self.header_block_since = 0.0

    def answered(self, *, data: bool = False) -> None:
        """We have sent headers or data: PINGs after them measure the line, WINDOW_UPDATEs belong to them."""
        self._last_ping = None
        self._strikes = 0
        if data:
            self._control.give(2)

    def reset(self) -> None:
        """One stream opened for nothing."""
        if not self._resets.take(monotonic()):
            self._end(b"too_many_resets")

    def frame(self, frame: Frame) -> None:
        """One frame of the peer, before it is acted on."""
        self.frames += 1
        match frame:
            case RstStreamFrame():
                self.reset()
                return
            case HeadersFrame():
                if "END_HEADERS" not in frame.flags:
                    self.header_block_since = monotonic()
                return
            case ContinuationFrame():
                return
            case DataFrame():
                if frame.data or "END_STREAM" in frame.flags:
                    return
            case PingFrame() if "ACK" not in frame.flags:
                self._ping()
            case _:
                pass
        if not self._control.take(monotonic()):
            self._end(b"too_many_control_frames")

    def _ping(self) -> None:
        now = monotonic()
        if self._last_ping is not None and now - self._last_ping < self._limits.min_ping_interval:
            self._strikes += 1
            if self._strikes > self._limits.max_ping_strikes:
                self._end(b"too_many_pings")  # the words grpc-go's client reads and slows down for
        self._last_ping = now

    def _end(self, why: bytes) -> None:
        self._protocol.connection.h2.goodbye = why
        raise DenialOfServiceError(why.decode())


class ServerProcessor(Processor):
    """Events of a client."""

    protocol: "ServerProtocol"

    def process(self, event: Event) -> None:
        """Note the preface, our answered PING, and each new call."""
        vitals = self.protocol.vitals
        match event:
            case RemoteSettingsChanged():
                vitals.spoke = True
            case PingAckReceived():
                if event.ping_data == GOAWAY_PING:
                    vitals.goaway_read = True
                    self.protocol.check(monotonic())
            case RequestReceived():
                vitals.idle_since = None
                self.protocol.stats.calls_started += 1
                self.protocol.stats.calls_under_way += 1
        super().process(event)

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        """A client's GOAWAY says that it begins no more calls; what it has begun goes on (RFC 9113 6.8)."""
        if event.error_code != ErrorCodes.NO_ERROR:
            self.close(f"the client sent GOAWAY {event.error_code}")


class ServerProtocol(Http2Protocol):
    """One accepted connection."""

    def __init__(
        self,
        service: Service,
        peer: Peer,
        budget: ByteBudget,
        stats: ServerStats,
        leave_after: float | None,
        log: PacedLog,
    ) -> None:
        super().__init__(client_side=False)
        self.service = service
        self.peer = peer
        self.stats = stats
        self._log = log
        self.calls = Calls(service, peer, self._call_ended)
        self.handler = self.calls
        self.budget = ByteBudget(service.limits.max_buffered_per_connection, budget)
        now = monotonic()
        self.vitals = Vitals(
            opened_at=now,
            leave_at=None if leave_after is None else now + leave_after,
            last_received=now,
            idle_since=now,
            grace=service.limits.age_grace,
        )
        self.meter = Meter(self)
        self._frames_before = 0
        self._reason = ""

    def build(self, transport: asyncio.Transport) -> tuple[Connection, Processor]:
        """The TLS handshake is done; the peer's certificate is there, if it sent one."""
        limits = self.service.limits
        self.peer.ssl_object = transport.get_extra_info("ssl_object")
        self.vitals.opened_at = self.vitals.last_received = self.vitals.idle_since = monotonic()
        bounds = FrameBounds(
            max_concurrent_streams=limits.max_concurrent_streams,
            max_header_bytes=limits.max_header_bytes,
            connection_window=limits.connection_window,
            stream_window=limits.stream_window,
        )
        h2 = Http2(self.h2_config, bounds, may_open=self._may_open, on_frame=self.meter.frame)
        connection = ServerConnection(h2, transport, budget=self.budget, max_receive_bytes=limits.max_receive_bytes)
        connection.protocol = self
        processor = ServerProcessor(self.calls, connection)
        processor.protocol = self
        return connection, processor

    def _may_open(self, stream_id: int) -> bool:
        limits = self.service.limits
        if self.vitals.last_stream_named:
            return False
        # CVE-2023-44487: a stream that was reset is closed for HTTP/2 but not for us until its handler has returned.
        full = len(self.calls) >= limits.max_concurrent_streams
        if full or self.stats.calls_under_way >= limits.max_calls:
            self.stats.calls_refused += 1
            self.meter.reset()
            return False
        return True

    def _call_ended(self) -> None:
        self.stats.calls_under_way -= 1
        if not self.calls:
            self.vitals.idle_since = monotonic()
            self.check(self.vitals.idle_since)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is gathered any more."""
        self.budget.close()
        super().connection_lost(exc)

    def fed(self) -> None:
        """After each slice of input: is something incomplete, does the peer read its answers?"""
        now = self.vitals.last_received = monotonic()
        buffer = self.connection.h2.incoming_buffer
        if not buffer.incomplete:
            self.vitals.incomplete_since = None
        elif buffer.in_header_block:
            self.vitals.incomplete_since = self.meter.header_block_since
        elif self.vitals.incomplete_since is None or self.meter.frames != self._frames_before:
            self.vitals.incomplete_since = now
        self._frames_before = self.meter.frames
        limits = self.service.limits
        unsent = self.connection.transport.get_write_buffer_size()
        if unsent > limits.max_unsent_bytes + FRAME_SIZE * limits.max_concurrent_streams:
            self.drop("does not read what it asks for")

    def protocol_error(self, error: Exception) -> None:
        """Say why to the operator, and by GOAWAY to the peer."""
        self.stats.protocol_errors += 1
        self._log.info("closing a connection: %s peer=%s", error, self.peer.address)
        super().protocol_error(error)

    def drop(self, reason: str) -> None:
        """Close at once."""
        self.stats.connections_dropped += 1
        self._log.info("dropping a connection: %s peer=%s", reason, self.peer.address)
        self.budget.close()
        self.processor.terminate_all(CallTerminatedError(Status.UNAVAILABLE, reason))
        self.connection.abort()

    def ask_to_leave(self, grace: float, reason: str = "the server is closing this connection") -> None:
        """Begin the graceful end: RFC 9113 6.8 and what grpc-go does at MaxConnectionAge."""
        self._reason = reason
        if self.vitals.asked_to_leave_at is not None:
            self.vitals.grace = min(self.vitals.grace, grace)
            return
        self.vitals.asked_to_leave_at = monotonic()
        self.vitals.grace = grace
        self.calls.draining.set()
        self.goaway(LAST_POSSIBLE_STREAM)
        self.connection.h2.ping(GOAWAY_PING)
        self.connection.flush()

    def check(self, now: float) -> None:
        """Do what `judge` says, until there is nothing to do."""
        while hasattr(self, "connection") and not self.connection.is_closing():
            match judge(self.vitals, now, self.service.limits):
                case Verdict.KEEP:
                    return
                case Verdict.DROP:
                    self.drop("too slow")
                case Verdict.ASK_TO_LEAVE:
                    self.ask_to_leave(self.service.limits.age_grace)
                case Verdict.NAME_LAST_STREAM:
                    self.vitals.last_stream_named = True
                    self.goaway(self.connection.h2.highest_inbound_stream_id)
                case Verdict.CLOSE:
                    self.connection.close()
                case Verdict.END_CALLS:
                    self.vitals.calls_ended = True
                    self.calls.end_all(self._reason)
                case Verdict.PING:
                    self.vitals.pinged_at = now
                    self.connection.h2.ping(ALIVE_PING)
                    self.connection.flush()
