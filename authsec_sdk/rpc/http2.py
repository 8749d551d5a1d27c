"""h2's connection with the frame rules it lacks: graceful GOAWAY, refused streams, bounded frames and headers."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, _decode_headers
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, TooManyStreamsError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy, StreamInputs
from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

LAST_POSSIBLE_STREAM = 2**31 - 1
HEADER_TABLE = 4096
FRAME_SIZE = 16384
_END_STREAM, _END_HEADERS = 0x1, 0x4  # RFC 9113 6.2


def fixed_block(*headers: tuple[str, str]) -> bytes:
    """Compress headers so that the block means the same on every connection, at any time.

    RFC 7541 6.2.3: a never-indexed literal is not entered into the dynamic table, which so stays as both sides have it.
    """
    return Encoder().encode([NeverIndexedHeaderTuple(name.encode(), value.encode()) for name, value in headers])


def h2_config(*, client_side: bool) -> H2Configuration:
    """As grpclib sets it up, but Latin-1: a header with other bytes is the caller's mistake, not a dead connection."""
    return H2Configuration(
        client_side=client_side,
        header_encoding="latin-1",
        validate_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_inbound_headers=False,
        normalize_outbound_headers=False,
    )


@dataclass(frozen=True, slots=True)
class FrameBounds:
    """What one HTTP/2 connection advertises and enforces."""

    max_concurrent_streams: int
    max_header_bytes: int
    connection_window: int
    stream_window: int


class BoundedFrameBuffer(FrameBuffer):
    """h2's frame buffer, which otherwise gathers up to 16 MiB of a frame before it looks at its length."""

    def __init__(self, *, server: bool, max_header_block: int, on_frame: Callable[[Frame], None]) -> None:
        super().__init__(server)
        self._max_header_block = max_header_block
        self._on_frame = on_frame

    @property
    def incomplete(self) -> bool:
        """Whether the preface, a frame or a header block has begun and not ended."""
        return bool(self._data or self._headers_buffer or self._preamble_len)

    @property
    def in_header_block(self) -> bool:
        """Whether a header block has begun and not ended."""
        return bool(self._headers_buffer)

    def __next__(self) -> Frame:
        # RFC 9113 4.2: a frame longer than SETTINGS_MAX_FRAME_SIZE is an error, known from its first three bytes.
        if len(self._data) >= 9:
            length = int.from_bytes(self._data[:3], "big")
            if length > self.max_frame_size:
                raise FrameTooLargeError(f"frame of {length} bytes, at most {self.max_frame_size} are allowed")
        return super().__next__()

    def _update_header_buffer(self, f: Frame | None) -> Frame | None:
        if f is not None:
            self._on_frame(f)
        whole = super()._update_header_buffer(f)
        # RFC 9113 6.5.2 bounds the decoded list; without a bound here 64 CONTINUATION frames make 1 MiB a connection.
        parts = self._headers_buffer
        if parts and sum(len(part.data) for part in parts) > self._max_header_block:
            raise DenialOfServiceError("header block too long")
        return whole


class Http2(H2Connection):
    """One HTTP/2 connection, client or server side.

    `may_open` is asked for each stream the peer opens; when it says no, that stream is refused and nothing else.
    `on_frame` sees every frame before it is processed and may raise an h2 ProtocolError to end the connection.
    """

    # How many closed streams are remembered for frames of theirs that come late; h2's 65,536 are MiB a connection.
    MAX_CLOSED_STREAMS = 1024

    def __init__(
        self,
        config: H2Configuration,
        bounds: FrameBounds,
        *,
        may_open: Callable[[int], bool] | None = None,
        on_frame: Callable[[Frame], None] = lambda _: None,
    ) -> None:
        super().__init__(config)
        self._may_open = may_open
        self.goodbye = b""  # debug data of the GOAWAY that a protocol error sends
        self.incoming_buffer: BoundedFrameBuffer = BoundedFrameBuffer(
            server=not config.client_side, max_header_block=2 * bounds.max_header_bytes, on_frame=on_frame
        )
        # In the first SETTINGS frame, where grpclib sends a second one for the window.
        self.local_settings = Settings(
            client=bool(config.client_side),
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: bounds.max_concurrent_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: bounds.max_header_bytes,
                SettingCodes.INITIAL_WINDOW_SIZE: bounds.stream_window,
                SettingCodes.MAX_FRAME_SIZE: FRAME_SIZE,
            },
        )
        self.max_inbound_frame_size = FRAME_SIZE
        self.decoder.max_header_list_size = bounds.max_header_bytes
        self.initiate_connection()
        if bounds.connection_window > self.inbound_flow_control_window:
            self.increment_flow_control_window(bounds.connection_window - self.inbound_flow_control_window)

    def send_block(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        """Queue a HEADERS frame with a compressed block made by `fixed_block`: what `send_headers` does, much cheaper.

        Raises: h2's ProtocolError if the stream is not there or takes no headers now.
        """
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        machine = self._get_stream_by_id(stream_id).state_machine
        machine.process_input(StreamInputs.SEND_HEADERS)
        flags = _END_HEADERS
        if end_stream:
            machine.process_input(StreamInputs.SEND_END_STREAM)
            flags |= _END_STREAM
        head = len(block).to_bytes(3, "big") + bytes((HeadersFrame.type, flags)) + stream_id.to_bytes(4, "big")
        self._data_to_send += head + block

    def send_goaway(self, last_stream_id: int, code: ErrorCodes = ErrorCodes.NO_ERROR, debug: bytes = b"") -> None:
        """Queue a GOAWAY and stay open: RFC 9113 6.8 lets streams up to `last_stream_id` end, h2 does not."""
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code, additional_data=debug)
        self._prepare_for_sending([frame])

    def _acknowledge_settings(self) -> list[Frame]:
        frames = super()._acknowledge_settings()
        # RFC 7541 4.2: an encoder may use less than the peer allows, which may be 4 GiB of our memory.
        if self.encoder.header_table_size > HEADER_TABLE:
            self.encoder.header_table_size = HEADER_TABLE
        return frames

    def _terminate_connection(self, error_code: ErrorCodes) -> None:
        self.state_machine.process_input(ConnectionInputs.SEND_GOAWAY)
        self.send_goaway(self.highest_inbound_stream_id, error_code, self.goodbye)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        # RFC 9113 6.8: "Activity on streams numbered lower than or equal to the last stream identifier might still
        # complete successfully." h2 moves to CLOSED on any GOAWAY and drops its output, the PING ACK with it that the
        # server waits for before it names the real last stream. What becomes of the connection is the processor's.
        event = ConnectionTerminated()
        event.error_code = _error_code(frame.error_code)
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        opens = (
            self._may_open is not None
            and frame.stream_id not in self.streams
            and frame.stream_id % 2 == 1
            and frame.stream_id > self.highest_inbound_stream_id
        )
        if not opens or self._may_open is None:
            return super()._receive_headers_frame(frame)
        if self._may_open(frame.stream_id):
            # h2 counts the open streams itself, and says so before it decodes anything.
            with contextlib.suppress(TooManyStreamsError):
                return super()._receive_headers_frame(frame)
        # RFC 9113 5.1.2: too many streams are a stream error, where h2 ends the connection. The header block is decoded
        # all the same, because the compression state of the connection depends on it (RFC 9113 4.3).
        _decode_headers(self.decoder, frame.data)
        self.highest_inbound_stream_id = frame.stream_id
        self._closed_streams[frame.stream_id] = StreamClosedBy.SEND_RST_STREAM
        return [RstStreamFrame(frame.stream_id, error_code=ErrorCodes.REFUSED_STREAM)], []


def _error_code(code: int) -> ErrorCodes | int:
    try:
        return ErrorCodes(code)
    except ValueError:
        return code
