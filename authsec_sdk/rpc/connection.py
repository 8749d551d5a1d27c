"""One HTTP/2 connection under grpclib's streams: its connection layer with the defects repaired, for both sides."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, cast

import grpclib.protocol
from grpclib.config import Configuration
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, StreamReset
from h2.exceptions import NoAvailableStreamIDError, StreamClosedError, TooManyStreamsError

from authsec_sdk.rpc import _supported  # noqa: F401 - refuses versions the repairs below do not fit
from authsec_sdk.rpc.budget import ByteBudget
from authsec_sdk.rpc.http2 import FRAME_SIZE, Http2
from authsec_sdk.rpc.receive import ReceiveBuffer
from authsec_sdk.rpc.status import STATUS_OF_RESET, CallTerminatedError, Status

Headers = list[tuple[str, str]]
CLOSE_TIMEOUT = 2.0


class ConnectionUnusableError(Exception):
    """The connection takes no new streams (it is closed, closing or asked to be left); nothing was sent."""


class CallStream(grpclib.protocol.Stream):
    """A stream of `Connection`. `over` is True once the peer has said how the call ended.

    While `defer` is set, headers and small messages are queued, not written: what follows at once goes out with them,
    in one packet and one TLS record. Whoever sets it sees to it that something follows.
    """

    over = False
    defer = False
    connection: "Connection"
    _h2_connection: Http2

    def init_stream(self, stream_id: int, connection: grpclib.protocol.Connection) -> None:
        """Bind to a stream ID, with a buffer that is bounded."""
        # As grpclib's, but for its buffer.
        self.id = stream_id
        self.connection.streams_started += 1
        self.created = self.connection.last_stream_created = time.monotonic()
        self.buffer: Any = ReceiveBuffer(partial(connection.ack, stream_id), self.connection.budget)

    async def send_request(
        self, headers: Headers, end_stream: bool = False, *, _processor: grpclib.protocol.EventsProcessor
    ) -> Callable[[], None]:
        """Open the stream. Raises: ConnectionUnusableError when it has to be another connection."""
        while True:
            await self.connection.write_ready.wait()
            # grpclib waits for ever for a free stream of a connection that is gone meanwhile.
            if not self.connection.takes_streams:
                raise ConnectionUnusableError
            try:
                stream_id = self._h2_connection.get_next_available_stream_id()
                self._h2_connection.send_headers(stream_id, headers, end_stream=end_stream)
            except TooManyStreamsError:
                self.connection.stream_close_waiter.clear()
                await self.connection.stream_close_waiter.wait()
                continue
            except NoAvailableStreamIDError as error:
                # RFC 9113 5.1.1: "A client that is unable to establish a new stream identifier can establish a new
                # connection for new streams."
                self.connection.takes_streams = False
                raise ConnectionUnusableError from error
            self.init_stream(stream_id, self.connection)
            release = _processor.register(self)
            if not self.defer:
                self.connection.flush()
            self.connection.headers_send_process()
            return release

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Send a message as flow control allows. What the peer no longer wants (`over`) is dropped, not an error."""
        assert self.id is not None
        file = BytesIO(data)
        left = len(data)
        while True:
            while not self.connection.write_ready.is_set():
                await self.connection.write_ready.wait()  # another stream may have filled it again meanwhile
            if self.over:
                await asyncio.sleep(0)  # a loop that only sends must not starve the loop it runs in
                return
            if not self.closable:
                raise StreamClosedError(self.id)
            window = self._h2_connection.local_flow_control_window(self.id)
            if window <= 0 and left:
                self.window_updated.clear()
                await self.window_updated.wait()
                continue
            # Never more than the smallest frame: a peer that allows 16 MiB would have us write so much for each stream.
            chunk = file.read(min(window, FRAME_SIZE, left))
            left -= len(chunk)
            self._h2_connection.send_data(self.id, chunk, end_stream=end_stream and not left)
            if left or not self.defer:
                self.connection.flush()
            self.data_sent += len(chunk)
            self.connection.data_sent += len(chunk)
            self.connection.data_send_process()
            if not left:
                return

    async def send_headers(self, headers: Headers, end_stream: bool = False) -> None:
        """Answer headers, once the peer takes them."""
        while not self.connection.write_ready.is_set():
            await self.connection.write_ready.wait()
        self.send_headers_nowait(headers, end_stream=end_stream)

    def takes(self, size: int) -> bool:
        """Whether so many bytes can go out now, without waiting for the peer."""
        return (
            self.connection.write_ready.is_set()
            and self.closable
            and self._h2_connection.local_flow_control_window(self.id or 0) >= size
        )

    def send_headers_nowait(self, headers: Headers, *, end_stream: bool) -> None:
        """Answer headers or trailers, however slowly the peer reads: they are small, and flow control spares them."""
        assert self.id is not None
        if self.id not in self._h2_connection.streams:
            raise StreamClosedError(self.id)
        self._h2_connection.send_headers(self.id, headers, end_stream=end_stream)
        if not self.defer:
            self.connection.flush()
        self.connection.headers_send_process()

    def send_block_nowait(self, block: bytes, *, end_stream: bool) -> None:
        """As `send_headers_nowait`, with a block of `fixed_block`."""
        assert self.id is not None
        if self.id not in self._h2_connection.streams:
            raise StreamClosedError(self.id)
        self._h2_connection.send_block(self.id, block, end_stream=end_stream)
        if not self.defer:
            self.connection.flush()
        self.connection.headers_send_process()

    async def end(self) -> None:
        """Half-close. A no-op on a stream that is over: RFC 9113 8.1 lets a server finish first, and then no frame but
        PRIORITY, RST_STREAM and WINDOW_UPDATE may follow (5.1)."""
        await self.connection.write_ready.wait()
        if self.over or not self.closable:
            return
        assert self.id is not None
        self._h2_connection.end_stream(self.id)
        self.connection.flush()

    def reset_nowait(self, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """RST_STREAM, whether or not the peer reads."""
        assert self.id is not None
        self._h2_connection.reset_stream(self.id, error_code=error_code)
        self.connection.flush()

    def finish(self) -> None:
        """The peer has said how the call ended: whoever still sends to it may stop."""
        self.over = True
        self.window_updated.set()

    def terminate(self, error: CallTerminatedError) -> None:
        """End the call from outside, wherever it waits; what the peer has said in full stays said.

        RFC 9113 8.1: a server may answer in full and then ask by RST_STREAM with NO_ERROR that the client stop sending;
        "clients MUST NOT discard responses as a result of receiving such a RST_STREAM". grpc-go does it with every
        bidirectional call it finishes first. The same holds for a connection that is closed right after the status.
        """
        if self.wrapper is not None and not self.over:
            self.wrapper.cancel(error)

    def __terminated__(self, reason: str) -> None:
        self.terminate(CallTerminatedError(Status.UNAVAILABLE, reason))

    @property
    def closable(self) -> bool:
        """Whether a frame may still be sent on this stream."""
        if self.id is None or self.connection.is_closing():
            return False
        if self._h2_connection.state_machine.state is ConnectionState.CLOSED:
            return False
        stream = self._h2_connection.streams.get(self.id)
        # An HTTP/2 stream half-closed by us can be reset, but takes no data.
        return stream is not None and not stream.closed


class Connection(grpclib.protocol.Connection):
    """Between h2 and the transport. `takes_streams` turns False for ever when the peer asks to be left."""

    _connection: Http2

    def __init__(self, h2: Http2, transport: asyncio.Transport, *, budget: ByteBudget, max_receive_bytes: int) -> None:
        super().__init__(h2, transport, config=Configuration().__for_client__())
        self.h2 = h2
        self.transport = transport
        self.budget = budget
        self.max_receive_bytes = max_receive_bytes
        self.takes_streams = True
        self._abort_timer: asyncio.TimerHandle | None = None

    def create_stream(self, *, stream_id: int | None = None, wrapper: Any = None) -> CallStream:
        """A stream of ours in place of grpclib's."""
        return CallStream(self, self.h2, self.transport, stream_id=stream_id, wrapper=wrapper)

    def flush(self) -> None:
        """Write what h2 has queued."""
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def ack(self, stream_id: int, size: int) -> None:
        """Give the peer back its window."""
        if size and self.h2.state_machine.state is not ConnectionState.CLOSED:
            self.h2.acknowledge_received_data(size, stream_id)
            self.flush()

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.transport.is_closing()

    def resume_writing(self) -> None:
        """The transport has room again."""
        super().resume_writing()
        self.flush()

    def close(self) -> None:
        """Close after what was written has gone out, or by force when the peer does not take it in time."""
        self.takes_streams = False
        if not self.transport.is_closing():
            self.flush()
            self.transport.close()
            loop = asyncio.get_running_loop()
            self._abort_timer = loop.call_later(CLOSE_TIMEOUT, self.transport.abort)
        self.wake()

    def abort_soon(self) -> None:
        """Close at once what was written: the kernel sends it, nobody waits for the peer's side."""
        self.takes_streams = False
        self.transport.close()
        asyncio.get_running_loop().call_soon(self.transport.abort)
        self.wake()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self.takes_streams = False
        self.transport.abort()
        self.wake()

    def lost(self) -> None:
        """The transport is gone: stop the timer, let go of h2's frames."""
        self.takes_streams = False
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self.wake()
        self.h2._frame_dispatch_table.clear()  # bound methods: a cycle that keeps every dead connection until gc

    def wake(self) -> None:
        """Let everybody look at the connection again who waits for it."""
        self.write_ready.set()
        self.stream_close_waiter.set()


class Processor(grpclib.protocol.EventsProcessor):
    """grpclib's event processor with the repairs that need no side."""

    connection: Connection

    def process(self, event: Event) -> None:
        """Act on one event. RFC 9113 5.5: what one does not know is ignored; grpclib raises NotImplementedError."""
        if self.processors.get(event.__class__) is not None:
            super().process(event)

    def register(self, stream: grpclib.protocol.Stream) -> Callable[[], None]:
        """Let events of the stream reach it until the returned function is called."""
        call = cast("CallStream", stream)
        assert call.id is not None
        self.streams[call.id] = call
        return partial(self._release, call)

    def _release(self, stream: CallStream) -> None:
        assert stream.id is not None
        if self.streams.pop(stream.id, None) is None:
            return
        unacked = stream.buffer.unacked_size()
        if not self.connection.is_closing():
            self.connection.ack(stream.id, unacked)
        self.connection.stream_close_waiter.set()
        self.released(stream)

    def released(self, stream: CallStream) -> None:
        """Called after a stream has been let go."""

    def close(self, reason: str = "connection closed") -> None:
        """Close the connection and end every call on it."""
        self.terminate_all(CallTerminatedError(Status.UNAVAILABLE, reason))
        self.connection.close()

    def terminate_all(self, error: CallTerminatedError) -> None:
        """End every call on the connection."""
        for stream in list(self.streams.values()):
            cast("CallStream", stream).terminate(error)
        self.handler.close()

    def process_stream_reset(self, event: StreamReset) -> None:
        """RST_STREAM of the peer, or a stream error of its making."""
        self.connection.streams_failed += 1
        stream = cast("CallStream | None", self.streams.get(event.stream_id))
        if stream is None:
            return
        code = event.error_code
        name = code.name if isinstance(code, ErrorCodes) else str(code)
        who = "the peer reset the stream" if event.remote_reset else "the peer broke the protocol on this stream"
        stream.terminate(
            CallTerminatedError(
                STATUS_OF_RESET.get(code, Status.INTERNAL) if isinstance(code, ErrorCodes) else Status.INTERNAL,
                f"{who}: {name}",
                unprocessed=code == ErrorCodes.REFUSED_STREAM,
            )
        )
        self.handler.cancel(stream)

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        """GOAWAY: no new streams here. RFC 9113 6.8: streams up to the named one may still complete."""
        self.connection.takes_streams = False
        self.connection.wake()


def monotonic() -> float:
    """The clock of everything in this package."""
    return time.monotonic()
