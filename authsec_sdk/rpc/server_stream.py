"""One call from the server's side: grpclib's `Stream` with bounds on what is received and how long it may take."""

import asyncio
from typing import Any, TypeVar, cast

import grpclib.server
from google.protobuf.message import Message
from grpclib.const import Status as GRPCStatus
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.metadata import encode_grpc_message, encode_metadata
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from multidict import MultiDict

from authsec_sdk.rpc.connection import CallStream
from authsec_sdk.rpc.http2 import fixed_block
from authsec_sdk.rpc.limits import ServerLimits
from authsec_sdk.rpc.receive import PREFIX, decode, receive_message
from authsec_sdk.rpc.status import DETAILS_KEY, GRPCError, Status, encode_details

_RecvT = TypeVar("_RecvT")
_SendT = TypeVar("_SendT")
#: More would not fit the header list other implementations accept.
MAX_MESSAGE_CHARACTERS = 1024


class ServerStream(grpclib.server.Stream[_RecvT, _SendT]):
    """What a handler gets. `finish` is the server's own; it never waits for a peer that does not read."""

    _stream: CallStream
    limits: ServerLimits
    _broken = False

    @property
    def finished(self) -> bool:
        """Whether the status has gone out."""
        return self._send_trailing_metadata_done

    @property
    def answered(self) -> bool:
        """Whether a message has gone out."""
        return self._send_message_done

    @property
    def _content_type(self) -> str:
        return GRPC_CONTENT_TYPE

    async def recv_message(self) -> _RecvT | None:
        """The client's next message, None after the last. Raises: GRPCError, which the handler lets pass."""
        limits = self.limits
        whole = self._stream.buffer.take_message(limits.max_receive_bytes)
        if whole is not None:  # as with most calls: a timer would cost more than the message
            flag, data = whole
            message: Any = decode(flag, data, self._codec, self._recv_type)
        else:
            try:
                async with asyncio.timeout(limits.receive_timeout):
                    message = await receive_message(
                        self._stream, self._codec, self._recv_type, limits.max_receive_bytes
                    )
            except TimeoutError:
                raise GRPCError(Status.DEADLINE_EXCEEDED, "no message from the client in time") from None
        if message is None:
            return None
        (message,) = await self._dispatch.recv_message(message)
        self._messages_received += 1
        return cast("_RecvT", message)

    async def send_initial_metadata(self, *, metadata: Any = None) -> None:
        """Send headers. Raises: GRPCError when the client does not take them in time."""
        if self._stream.connection.write_ready.is_set():
            if metadata or self._send_initial_metadata_done:
                await super().send_initial_metadata(metadata=metadata)
            else:
                self._stream.send_block_nowait(_RESPONSE, end_stream=False)
                self._send_initial_metadata_done = True
            return
        try:
            async with asyncio.timeout(self.limits.send_timeout):
                await super().send_initial_metadata(metadata=metadata)
        except TimeoutError:
            raise GRPCError(Status.DEADLINE_EXCEEDED, "the client does not read") from None

    async def send_message(self, message: _SendT) -> None:
        """Send one message. Raises: GRPCError when the client does not take it in time."""
        if self._stream.takes(cast("Message", message).ByteSize() + PREFIX):
            await super().send_message(message)
            return
        try:
            async with asyncio.timeout(self.limits.send_timeout):
                await super().send_message(message)
        except TimeoutError:
            self._broken = True  # a part of the message may be out: no status can follow it
            raise GRPCError(Status.DEADLINE_EXCEEDED, "the client does not read") from None

    async def send_trailing_metadata(
        self,
        *,
        status: GRPCStatus = Status.OK,
        status_message: str | None = None,
        status_details: Any = None,
        metadata: Any = None,
    ) -> None:
        """End the call; what a handler calls that has trailing metadata to send."""
        (metadata,) = await self._dispatch.send_trailing_metadata(
            cast("Any", MultiDict(metadata or ())),
            status=status,
            status_message=status_message,
            status_details=status_details,
        )
        self.finish(status, status_message, status_details, list(encode_metadata(metadata)))

    def finish(
        self,
        status: GRPCStatus,
        message: str | None = None,
        details: Any = None,
        metadata: list[tuple[str, str]] | None = None,
    ) -> None:
        """Send the status: in trailers, or where nothing went out before, in the only headers (Trailers-Only)."""
        if self._send_trailing_metadata_done or self._cancel_done or not self._stream.closable:
            return
        self._send_trailing_metadata_done = True
        self._stream.defer = False
        try:
            if self._broken:
                self._stream.reset_nowait(ErrorCodes.CANCEL)
                return
            if status is Status.OK and self._send_initial_metadata_done and not (message or metadata):
                self._stream.send_block_nowait(_OK, end_stream=True)
            else:
                headers = [] if self._send_initial_metadata_done else response_headers()
                headers += status_headers(status, message, details)
                self._stream.send_headers_nowait([*headers, *(metadata or ())], end_stream=True)
            if self._stream.closable:
                # The client has not ended its side. RFC 9113 8.1: NO_ERROR asks it to stop sending.
                self._stream.reset_nowait(ErrorCodes.NO_ERROR)
        except H2Error:
            return  # the stream is gone: nobody to tell

    async def cancel(self) -> None:
        """Reset the stream without a status."""
        if not self._cancel_done and self._stream.closable:
            self._stream.reset_nowait(ErrorCodes.CANCEL)
        self._cancel_done = True


def response_headers() -> list[tuple[str, str]]:
    """Without a content-type a Go client takes a Trailers-Only answer for something that is not gRPC."""
    return [(":status", "200"), ("content-type", GRPC_CONTENT_TYPE)]


def status_headers(status: GRPCStatus, message: str | None, details: Any = None) -> list[tuple[str, str]]:
    """grpc-status, grpc-message and grpc-status-details-bin."""
    headers = [("grpc-status", str(status.value))]
    if message:
        message = message[:MAX_MESSAGE_CHARACTERS]
        headers.append(("grpc-message", encode_grpc_message(message)))
    if details and status is not Status.OK:
        headers.append((DETAILS_KEY, encode_details(status, message, details)))
    return headers


# What nearly every call is answered with.
_RESPONSE = fixed_block(*response_headers())
_OK = fixed_block(*status_headers(Status.OK, None))
