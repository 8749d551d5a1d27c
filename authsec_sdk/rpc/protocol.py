"""The asyncio protocol of one HTTP/2 connection: bytes in, events to the processor; no exception ever out."""

import asyncio
import logging
from typing import Any, cast

import grpclib.client
import grpclib.protocol
from grpclib.config import Configuration
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from authsec_sdk.rpc.connection import Connection, Processor
from authsec_sdk.rpc.http2 import h2_config

_logger = logging.getLogger(__name__)
# asyncio hands over up to 256 KiB at a time; bounds are checked between slices of it.
SLICE = 16384


class Http2Protocol(grpclib.protocol.H2Protocol):
    """Common to both sides; `lost` is set when the transport is gone, with the reason in `lost_error`."""

    connection: Connection
    processor: Processor

    def __init__(self, *, client_side: bool) -> None:
        super().__init__(grpclib.client.Handler(), Configuration().__for_client__(), h2_config(client_side=client_side))
        self.lost = asyncio.Event()
        self.lost_error: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Build the connection and send our first frames."""
        transport = cast("asyncio.Transport", transport)  # not checked: uvloop's are of a family of their own
        sock = transport.get_extra_info("socket")
        if sock is not None:
            grpclib.protocol._set_nodelay(sock)
        self.connection, self.processor = self.build(transport)
        self.connection.flush()

    def build(self, transport: asyncio.Transport) -> tuple[Connection, Processor]:
        """The connection and processor of this side."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Feed h2. A peer that breaks the protocol is told by GOAWAY and let go; ours alone are the exceptions."""
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            if self.connection.is_closing():
                return
            try:
                events = self.connection.feed(bytes(view[start : start + SLICE]))
                self.connection.flush()
                for event in events:
                    if self.connection.is_closing():
                        return  # nothing new is begun for a peer that was dropped
                    self.processor.process(event)
                self.connection.flush()
            except H2Error as error:
                self.protocol_error(error)
                return
            except Exception as error:
                _logger.debug("unexpected error in an HTTP/2 connection", exc_info=True)
                self.protocol_error(error)
                return
            self.fed()

    def fed(self) -> None:
        """Called after each slice of input."""

    def protocol_error(self, error: Exception) -> None:
        """End the connection: h2 has queued the GOAWAY that says why."""
        _logger.debug("HTTP/2 protocol error: %s", error)
        self.processor.close(f"HTTP/2 protocol error: {error}")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing will come any more: end what is still open."""
        if not hasattr(self, "connection"):
            self.lost.set()
            return
        self.lost_error = exc
        self.connection.lost()
        reason = "connection lost" if exc is None else f"connection lost: {exc}"
        self.processor.close(reason)
        self.processor.processors.clear()
        self.lost.set()

    def goaway(self, last_stream_id: int, code: ErrorCodes = ErrorCodes.NO_ERROR, debug: bytes = b"") -> None:
        """Send GOAWAY and leave the connection open."""
        if not self.connection.is_closing():
            self.connection.h2.send_goaway(last_stream_id, code, debug)
            self.connection.flush()


def describe(address: Any) -> str:
    """An address as logs show it."""
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case bytes():
            return "unix:" + address.decode("utf-8", "backslashreplace").replace("\0", "@")
        case str() if address:
            return "unix:" + address.replace("\0", "@")
        case _:
            return "unix"
