"""Which grpclib and h2 the repairs of this package fit; anything else is refused at import.

The repairs reach below both libraries' public interfaces: that is where the defects are. So a release that moved one of
the names we use must stop the program with a sentence and not a connection with an `AttributeError`.
"""

import grpclib
import grpclib.client
import grpclib.protocol
import grpclib.server
from h2.connection import H2Connection

GRPCLIB = (0, 4)
_NAMES = {
    grpclib.client.Channel: ("request", "__connect__", "close", "_protocol"),
    grpclib.client.Stream: ("_process_grpc_status", "_raise_for_status", "_raise_for_content_type", "_maybe_raise"),
    grpclib.server.Stream: ("send_initial_metadata", "send_trailing_metadata", "_send_message_done"),
    grpclib.protocol.Connection: ("ack", "flush", "initialize", "is_closing", "headers_send_process"),
    grpclib.protocol.Stream: ("init_stream", "recv_data", "send_data", "reset_nowait", "closable", "__terminated__"),
    grpclib.protocol.EventsProcessor: ("register", "process", "process_stream_reset", "process_trailers_received"),
    H2Connection: (
        "_prepare_for_sending",
        "_receive_goaway_frame",
        "_receive_headers_frame",
        "_acknowledge_settings",
        "_terminate_connection",
        "_get_stream_by_id",
    ),
}
_H2_ATTRIBUTES = (
    "_closed_streams",
    "_data_to_send",
    "_frame_dispatch_table",
    "decoder",
    "incoming_buffer",
    "local_settings",
)
_BUFFER_ATTRIBUTES = ("_data", "_headers_buffer", "_preamble_len", "_update_header_buffer")


def check() -> None:
    """Raise ImportError unless every private name the repairs use is where they expect it."""
    version = tuple(int(part) for part in grpclib.__version__.split(".")[:2])
    missing = [f"{cls.__qualname__}.{name}" for cls, names in _NAMES.items() for name in names if name not in dir(cls)]
    connection = H2Connection()
    missing += [f"H2Connection().{name}" for name in _H2_ATTRIBUTES if not hasattr(connection, name)]
    missing += [f"FrameBuffer().{n}" for n in _BUFFER_ATTRIBUTES if not hasattr(connection.incoming_buffer, n)]
    if version != GRPCLIB or missing:
        raise ImportError(
            f"authsec_sdk.rpc supports grpclib 0.4.9 and later 0.4 releases with h2 4; found grpclib "
            f"{grpclib.__version__}, missing: {', '.join(missing) or 'nothing'}"
        )


check()
