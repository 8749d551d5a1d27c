"""The client's side of one HTTP/2 connection: graceful GOAWAY, early ends, keepalive."""

import asyncio
from typing import cast

from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, RemoteSettingsChanged, StreamEnded, TrailersReceived

from authsec_sdk.rpc.budget import ByteBudget
from authsec_sdk.rpc.connection import CallStream, Connection, Processor, monotonic
from authsec_sdk.rpc.http2 import FrameBounds, Http2
from authsec_sdk.rpc.limits import MIB
from authsec_sdk.rpc.protocol import Http2Protocol
from authsec_sdk.rpc.status import CallTerminatedError, Status

WINDOW = 4 * MIB
#: What may wait for a server that asks for answers (PING, SETTINGS) and does not read them; calls wait far below that.
MAX_UNSENT = 4 * MIB
# Streams of the server's own are forbidden by ENABLE_PUSH; 0 here would make h2 mistake late headers of a call that was
# cancelled for one. Headers: more than a server's 16 KiB for requests, because of grpc-status-details-bin.
BOUNDS = FrameBounds(
    max_concurrent_streams=100, max_header_bytes=64 * 1024, connection_window=WINDOW, stream_window=WINDOW
)


class ClientProcessor(Processor):
    """What servers do that grpclib does not expect."""

    protocol: "ClientProtocol"

    def process(self, event: Event) -> None:
        """RFC 9113 3.4: the server's preface is a SETTINGS frame; until it is in, nobody knows it speaks HTTP/2."""
        if isinstance(event, RemoteSettingsChanged):
            self.protocol.ready()
        super().process(event)

    def process_trailers_received(self, event: TrailersReceived) -> None:
        """The status is in: the call is over, whether or not we have ended our side (RFC 9113 8.1)."""
        super().process_trailers_received(event)
        stream = cast("CallStream | None", self.streams.get(event.stream_id))
        if stream is not None:
            stream.finish()

    def process_stream_ended(self, event: StreamEnded) -> None:
        """The server's side is closed: with trailers, with headers alone (status in them), or without a status."""
        super().process_stream_ended(event)
        stream = cast("CallStream | None", self.streams.get(event.stream_id))
        if stream is None:
            return
        if stream.trailers is None and "grpc-status" not in dict(stream.headers or ()):
            # gRPC over HTTP/2, "Responses": Trailers are mandatory. grpclib would wait for them for ever.
            stream.trailers = []
            stream.trailers_received.set()
        stream.finish()

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        """GOAWAY: new calls go elsewhere, those the server will not begin end as repeatable, the others live on.

        RFC 9113 6.8. A graceful server names 2^31-1 first and the real last stream once our PING ACK is in.
        """
        self.connection.takes_streams = False
        self.connection.wake()
        last = event.last_stream_id
        for stream_id, stream in list(self.streams.items()):
            if last is not None and stream_id > last:
                error = CallTerminatedError(Status.UNAVAILABLE, "the server left before this call", unprocessed=True)
                cast("CallStream", stream).terminate(error)
        if event.error_code != ErrorCodes.NO_ERROR:
            code = event.error_code
            why = (event.additional_data or b"").decode("utf-8", "replace")[:200]
            self.close(f"GOAWAY {code.name if isinstance(code, ErrorCodes) else code} {why}".rstrip())
        elif not self.streams:
            self.close()

    def released(self, stream: CallStream) -> None:
        """The last call on a connection we were asked to leave closes it."""
        if not self.connection.takes_streams and not self.streams:
            self.connection.close()


class ClientProtocol(Http2Protocol):
    """One connection of a channel."""

    def __init__(
        self, authority: str, *, max_receive_bytes: int, keepalive: float | None, keepalive_timeout: float
    ) -> None:
        super().__init__(client_side=True)
        self.authority = authority
        self.last_received = monotonic()
        self._max_receive_bytes = max_receive_bytes
        self._keepalive = keepalive
        self._keepalive_timeout = keepalive_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._pinged_at: float | None = None
        self._ready = asyncio.Event()

    def build(self, transport: asyncio.Transport) -> tuple[Connection, Processor]:
        """Our windows and header bound; no pushed streams."""
        connection = Connection(
            Http2(self.h2_config, BOUNDS),
            transport,
            budget=ByteBudget(2**62),  # a caller knows what it asked for; max_receive_bytes bounds each answer
            max_receive_bytes=self._max_receive_bytes,
        )
        processor = ClientProcessor(self.handler, connection)
        processor.protocol = self
        if self._keepalive is not None:
            self._timer = asyncio.get_running_loop().call_later(self._keepalive, self._check_alive)
        return connection, processor

    @property
    def usable(self) -> bool:
        """Whether new calls may start here."""
        return self.connection.takes_streams and not self.connection.is_closing()

    def ready(self) -> None:
        """The server has sent its SETTINGS."""
        self._ready.set()

    async def wait_ready(self) -> None:
        """Wait for the server's SETTINGS. Raises: ConnectionError if the connection is gone before."""
        await self._ready.wait()
        if self.lost.is_set():
            why = self.lost_error or "closed by the server"
            raise ConnectionError(f"no HTTP/2 from the server: {why}") from self.lost_error

    def data_received(self, data: bytes) -> None:
        """Note that the server lives, then act."""
        self.last_received = monotonic()
        super().data_received(data)

    def fed(self) -> None:
        """After each slice of input: does the server read its answers?"""
        if self.connection.transport.get_write_buffer_size() > MAX_UNSENT:
            error = CallTerminatedError(Status.UNAVAILABLE, "the server does not read what it asks for")
            self.processor.terminate_all(error)
            self.connection.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the timer and end what is open."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        self._ready.set()

    def _check_alive(self) -> None:
        assert self._keepalive is not None
        now = monotonic()
        if self._pinged_at is not None and self.last_received >= self._pinged_at:
            self._pinged_at = None
        waited = 0.0 if self._pinged_at is None else now - self._pinged_at
        if waited >= self._keepalive_timeout:
            self.processor.terminate_all(CallTerminatedError(Status.UNAVAILABLE, "keepalive: no answer to a PING"))
            self.connection.abort()
            return
        if self._pinged_at is None and self.processor.streams and now - self.last_received >= self._keepalive:
            self.connection.h2.ping(b"keepaliv")
            self.connection.flush()
            self._pinged_at = now
        delay = min(self._keepalive, self._keepalive_timeout - waited)
        self._timer = asyncio.get_running_loop().call_later(delay, self._check_alive)
