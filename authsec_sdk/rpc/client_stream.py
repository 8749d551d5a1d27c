"""One call from the client's side: grpclib's `Stream`, which can be left at any moment and fails only by GRPCError."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpclib.client
from grpclib.const import Status as GRPCStatus
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from grpclib.metadata import USER_AGENT, Deadline, decode_grpc_message, encode_metadata
from grpclib.utils import DeadlineWrapper
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from authsec_sdk.rpc.connection import CallStream, ConnectionUnusableError, monotonic
from authsec_sdk.rpc.metadata import encode_timeout
from authsec_sdk.rpc.receive import receive_message
from authsec_sdk.rpc.status import DETAILS_KEY, CallTerminatedError, GRPCError, Status, decode_details

if TYPE_CHECKING:
    from authsec_sdk.rpc.channel import Channel
    from authsec_sdk.rpc.client_protocol import ClientProtocol

#: Seconds before our deadline within which a server's CANCEL is taken for its own timer.
DEADLINE_SLACK = 0.05
#: How often a call is sent again that the server did not begin.
MAX_REPEATS = 2

_SendT = TypeVar("_SendT")
_RecvT = TypeVar("_RecvT")


class CallWrapper(DeadlineWrapper):
    """grpclib's wrapper cancels the task that waits in a call and raises the reason in its place.

    It leaves the task's cancellation count raised, which makes a later `asyncio.TaskGroup` or `asyncio.timeout` in that
    task misbehave, and it swallows a cancellation from outside that comes at the same moment. This one does neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entered: dict[asyncio.Task[Any], int] = {}
        self._cancelled_by_us: set[asyncio.Task[Any]] = set()
        self._deadline: Deadline | None = None

    def __enter__(self) -> None:
        if self._error is not None:
            raise self._error
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._entered.setdefault(task, task.cancelling())

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        before = self._entered.pop(task, 0)
        self._tasks.discard(task)
        if task in self._cancelled_by_us:
            self._cancelled_by_us.discard(task)
            if task.uncancel() > before:
                return  # somebody else cancelled it too: that goes on
            if self._error is not None:
                raise self._error from None
        elif self._error is not None and not isinstance(exc_val, (GRPCError, asyncio.CancelledError)):
            raise self._error

    def rearm(self) -> None:
        """Forget the error: the call begins anew."""
        self._error = None

    def cancel(self, error: Exception) -> None:
        """Raise `error` in every task that is inside, and in every one that comes in later."""
        if self._error is not None:
            return
        cancelled = isinstance(error, GRPCError) and error.status is Status.CANCELLED
        if cancelled and self._deadline is not None and self._deadline.time_remaining() < DEADLINE_SLACK:
            # The server keeps our deadline too, and its reset may overtake our own timer.
            error = _deadline_exceeded()
        self._error = error
        for task in self._tasks:
            self._cancelled_by_us.add(task)
            task.cancel()
        self.cancelled = True

    @contextmanager
    def start(self, deadline: Deadline) -> Iterator[None]:
        """Cancel with DEADLINE_EXCEEDED when the deadline passes."""
        remaining = deadline.time_remaining()
        if not remaining:
            raise _deadline_exceeded()
        self._deadline = deadline
        timer = asyncio.get_running_loop().call_later(remaining, self.cancel, _deadline_exceeded())
        try:
            yield
        finally:
            timer.cancel()


def _deadline_exceeded() -> GRPCError:
    return GRPCError(Status.DEADLINE_EXCEEDED, "deadline exceeded")


class ClientStream(grpclib.client.Stream[_SendT, _RecvT]):
    """Left early, the call is cancelled; left after its last message, or with one answer to come, it waits for status.

    Every failure is a GRPCError: DEADLINE_EXCEEDED, UNAVAILABLE for a connection that was lost or not made (with the
    reason as its cause), what the server said, and for resets what the protocol's table says.
    """

    _channel: "Channel"
    _stream: CallStream
    _started_at = 0.0
    _saw_end = False
    _first: "tuple[_SendT, bool] | None" = None
    _repeats = 0
    _message_follows = False
    _wrapper: CallWrapper

    async def __aenter__(self) -> "ClientStream[_SendT, _RecvT]":
        self._wrapper = CallWrapper()
        if self._deadline is not None:
            context = self._wrapper.start(self._deadline)
            context.__enter__()
            self._wrapper_ctx = context
        self._channel._calls_started += 1
        self._channel._last_call_started = self._started_at = monotonic()
        return self

    async def send_request(self, *, end: bool = False) -> None:
        """Send the request's headers, over a connection that takes new streams."""
        if self._send_request_done:
            raise ProtocolError("Request is already sent")
        if end and not self._cardinality.client_streaming:
            raise ProtocolError("Unary request requires a message to be sent before ending outgoing stream")
        with self._wrapper:
            (metadata,) = await self._dispatch.send_request(
                self._metadata,
                method_name=self._method_name,
                deadline=self._deadline,
                content_type=GRPC_CONTENT_TYPE,
            )
            extra = list(encode_metadata(cast("Any", metadata)))
            while True:
                protocol = await self._channel.__connect__()
                stream = protocol.processor.connection.create_stream(wrapper=self._wrapper)
                stream.defer = self._message_follows
                try:
                    release = await stream.send_request(
                        [*self._headers(protocol), *extra], end_stream=end, _processor=protocol.processor
                    )
                except ConnectionUnusableError:
                    continue  # it was asked to be left while we waited; nothing was sent
                break
            stream.defer = False
            self._stream = stream
            self._release_stream = release
            self.peer = stream.connection.get_peer()
            self._send_request_done = True
            self._end_done = end

    def _headers(self, protocol: "ClientProtocol") -> list[tuple[str, str]]:
        headers = [
            (":method", "POST"),
            (":scheme", self._channel._scheme),
            (":path", self._method_name),
            (":authority", protocol.authority),
        ]
        if self._deadline is not None:
            headers.append(("grpc-timeout", encode_timeout(self._deadline.time_remaining())))
        return [*headers, ("te", "trailers"), ("content-type", GRPC_CONTENT_TYPE), ("user-agent", USER_AGENT)]

    async def send_message(self, message: _SendT, *, end: bool = False) -> None:
        """Send one message; on a call that the server has ended it goes nowhere, and receiving says how it ended."""
        if self._send_request_done and self._stream.over:
            await asyncio.sleep(0)  # a loop that only sends must not starve the loop it runs in
            return
        self._first = (message, end)
        self._message_follows = True
        try:
            await super().send_message(message, end=end)
        except CallTerminatedError as error:
            if not self._may_repeat(error):
                raise
            await self._repeat()
        except H2Error as error:
            self._closed_under_us(error)
            self._send_message_done = True
            self._end_done = self._end_done or end

    async def end(self) -> None:
        """Say that no more messages follow; on a call that the server has ended, nothing."""
        if self._send_request_done and self._stream.over:
            self._end_done = True
            return
        try:
            with self._wrapper:
                await super().end()
        except H2Error as error:
            self._closed_under_us(error)
            self._end_done = True

    def _closed_under_us(self, error: H2Error) -> None:
        if not self._stream.over:
            raise CallTerminatedError(Status.UNAVAILABLE, f"the call is closed: {error}") from error

    async def recv_initial_metadata(self) -> None:
        """Wait for the server's headers. Raises: GRPCError, for malformed ones too."""
        while True:
            try:
                await super().recv_initial_metadata()
            except CallTerminatedError as error:
                if not self._may_repeat(error):
                    raise
                await self._repeat()
            except (KeyError, ValueError) as error:
                raise GRPCError(Status.INTERNAL, "malformed response headers") from error
            else:
                return

    def _may_repeat(self, error: CallTerminatedError) -> bool:
        """RFC 9113 8.7: what the server says it did not begin may be sent again; gRPC calls it a transparent retry.

        Only for calls with one request: it is at hand, and nobody else is about to send another. And only without a
        word of an answer: a server that answered has begun, whatever it says afterwards.
        """
        if not error.unprocessed or self._cardinality.client_streaming or self._repeats >= MAX_REPEATS:
            return False
        return self._stream.headers is None

    async def _repeat(self) -> None:
        self._repeats += 1
        self._release_stream()
        self._wrapper.rearm()
        self._send_request_done = self._send_message_done = self._end_done = False
        message, end = cast("tuple[_SendT, bool]", self._first)
        await self.send_message(message, end=end)

    async def recv_message(self) -> _RecvT | None:
        """The next message, None after the last. Raises: GRPCError, for a status that is not OK too."""
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        with self._wrapper:
            message = await receive_message(
                self._stream, self._codec, self._recv_type, self._stream.connection.max_receive_bytes
            )
            if message is not None:
                (message,) = await self._dispatch.recv_message(message)
        if message is not None:
            self._messages_received += 1
            return cast("_RecvT", message)
        # The end of the messages is the place for the status: whoever takes None for a good end is right to.
        self._saw_end = True
        if not self._recv_trailing_metadata_done:
            await self.recv_trailing_metadata()
        if not self._cardinality.server_streaming and not self._messages_received:
            raise GRPCError(Status.INTERNAL, "the call ended well without an answer")
        return None

    async def recv_trailing_metadata(self) -> None:
        """Wait for the status. Raises: GRPCError for any but OK."""
        if not self._end_done and hasattr(self, "_stream") and self._stream.over:
            self._end_done = True  # the server finished first: there is no outgoing stream to end
        try:
            await super().recv_trailing_metadata()
        except (KeyError, ValueError) as error:
            raise GRPCError(Status.INTERNAL, "malformed response trailers") from error

    def _process_grpc_status(self, headers_map: dict[str, str]) -> tuple[GRPCStatus, str | None, Any]:
        value = headers_map.get("grpc-status")
        if value is None:
            raise GRPCError(Status.UNKNOWN, "missing grpc-status")
        try:
            status = Status(int(value) if value.isdecimal() else value)  # int() alone takes "0_0" and " +0" for OK
        except ValueError:
            raise GRPCError(Status.UNKNOWN, f"invalid grpc-status: {value!r}") from None
        if status is Status.OK:
            return status, None, None
        message = headers_map.get("grpc-message")
        details = headers_map.get(DETAILS_KEY)
        return (
            status,
            None if message is None else decode_grpc_message(message),
            None if details is None else decode_details(details),
        )

    async def cancel(self) -> None:
        """Tell the server that nobody waits any more; a second time, or on a finished call, a no-op."""
        if self._send_request_done and not self._cancel_done and self._stream.closable:
            self._stream.reset_nowait(ErrorCodes.CANCEL)
        self._cancel_done = True

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        error = exc_val
        try:
            if self._send_request_done:
                if error is None:
                    await self._finish()
                elif isinstance(error, StreamTerminatedError):
                    self._maybe_raise()  # the server's own status, if it came before the reset
        except BaseException as later:
            error = later
            raise
        finally:
            self._leave(error)

    async def _finish(self) -> None:
        if self._cancel_done:
            return
        # A stream of answers that is left before its end has no status to wait for: grpclib waits for trailers that
        # never come. A call with one answer has; so has one whose last message was seen.
        ended = self._end_done or not self._cardinality.client_streaming or self._stream.over
        if not (self._saw_end or (not self._cardinality.server_streaming and ended)):
            return
        while not self._saw_end and not self._cardinality.server_streaming:
            await self.recv_message()
            if self._messages_received > 1:
                raise GRPCError(Status.INTERNAL, "more than one answer to a call that has one")
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        if not self._recv_trailing_metadata_done:
            await self.recv_trailing_metadata()

    def _leave(self, error: BaseException | None) -> None:
        if self._send_request_done:
            if self._stream.closable:
                self._stream.reset_nowait(ErrorCodes.NO_ERROR if self._stream.over else ErrorCodes.CANCEL)
            if isinstance(error, GRPCError) and error.status is Status.DEADLINE_EXCEEDED:
                self._channel._suspect(self._stream.connection, self._started_at)
            self._release_stream()
        if self._wrapper_ctx is not None:
            self._wrapper_ctx.__exit__(None, None, None)
        if error is None:
            self._channel._calls_succeeded += 1
        else:
            self._channel._calls_failed += 1
