"""Serving the calls of one connection: each in a task of its own, ended by handler, deadline, client or server."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from grpclib.const import Handler, Status
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.metadata import Deadline
from grpclib.protocol import AbstractHandler
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from authsec_sdk.rpc.connection import CallStream, monotonic
from authsec_sdk.rpc.limits import ServerLimits
from authsec_sdk.rpc.metadata import Headers, decode_deadline, decode_metadata
from authsec_sdk.rpc.peer import Call, Interceptor, Peer, set_current_call
from authsec_sdk.rpc.server_stream import ServerStream, response_headers, status_headers
from authsec_sdk.rpc.status import GRPCError

_logger = logging.getLogger(__name__)
_CODEC = ProtoCodec()
_DISPATCH = _DispatchServerEvents()


class Service:
    """What a server serves: methods by path, and the interceptor around each."""

    def __init__(self, methods: Mapping[str, Handler], limits: ServerLimits, interceptor: Interceptor | None) -> None:
        self.methods = methods
        self.limits = limits
        self.interceptor = interceptor
        self._services = {path.split("/")[1] for path in methods}

    def unimplemented(self, path: str) -> GRPCError:
        """The answer to a path nobody serves, in the words of grpc-go, which clients and people look for."""
        service, slash, method = path.removeprefix("/").rpartition("/")
        if not path.startswith("/") or not slash:
            return GRPCError(Status.UNIMPLEMENTED, f"malformed method name: {path!r}")
        if service in self._services:
            return GRPCError(Status.UNIMPLEMENTED, f"unknown method {method} for service {service}")
        return GRPCError(Status.UNIMPLEMENTED, f"unknown service {service}")


class Calls(AbstractHandler):
    """The calls of one connection. A call counts until its handler has returned, also when the client is long gone."""

    def __init__(self, service: Service, peer: Peer, ended: Callable[[], None]) -> None:
        self._service = service
        self._peer = peer
        self._ended = ended
        self._tasks: dict[CallStream, asyncio.Task[None]] = {}
        self._unfinished: set[asyncio.Task[None]] = set()
        self._expires: dict[asyncio.Task[None], float] = {}
        self._expired: set[asyncio.Task[None]] = set()
        self._reason: str | None = None
        self.draining = asyncio.Event()

    def __len__(self) -> int:
        return len(self._unfinished)

    def accept(self, stream: Any, headers: Any, release_stream: Any) -> None:
        """Begin to serve a call."""
        task = asyncio.get_running_loop().create_task(self._serve(stream, headers))
        self._tasks[stream] = task
        self._unfinished.add(task)
        # In a callback and not in the task: one that is reset before its first step runs no `finally`.
        task.add_done_callback(lambda done: self._done(stream, done, release_stream))

    def _done(self, stream: CallStream, task: asyncio.Task[None], release: Callable[[], None]) -> None:
        release()
        self._tasks.pop(stream, None)
        self._expires.pop(task, None)
        self._expired.discard(task)
        self._unfinished.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a call ended by an error of the server's own", exc_info=error)
        self._ended()

    def cancel(self, stream: Any) -> None:
        """The client has reset the stream."""
        task = self._tasks.pop(stream, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """The connection is gone: nobody waits for an answer."""
        for task in list(self._tasks.values()):
            task.cancel()
        self._tasks.clear()

    def expire(self, now: float) -> None:
        """End the calls whose handlers have had their time."""
        for task in [task for task, at in self._expires.items() if at <= now]:
            del self._expires[task]
            self._expired.add(task)
            task.cancel()

    def end_all(self, reason: str) -> None:
        """End what is under way with UNAVAILABLE, the one status every client comes back from."""
        self._reason = reason
        for task in list(self._tasks.values()):
            task.cancel()

    async def wait(self) -> None:
        """Until every handler has returned."""
        while self._unfinished:
            await asyncio.wait(self._unfinished)

    async def _serve(self, stream: CallStream, headers: Headers) -> None:
        try:
            await self._answer(stream, dict(headers), headers)
        except H2Error:
            _logger.debug("the client left during a call", exc_info=True)

    async def _answer(self, stream: CallStream, fields: dict[str, str], headers: Headers) -> None:
        if not self._is_grpc(stream, fields):
            return
        path = fields.get(":path", "")
        method = self._service.methods.get(path)
        if method is None:
            error = self._service.unimplemented(path)
            self._refuse(stream, response_headers(), error.status, error.message)
            return
        call_stream: ServerStream[Any, Any] = ServerStream(
            stream,
            path,
            method.cardinality,
            method.request_type,
            method.reply_type,
            codec=_CODEC,
            status_details_codec=None,
            dispatch=_DISPATCH,
            user_agent=fields.get("user-agent"),
        )
        call_stream.limits = self._service.limits
        stream.defer = not method.cardinality.server_streaming  # one answer: it goes out with its status
        try:
            deadline = decode_deadline(fields.get("grpc-timeout"))
            call_stream.deadline = deadline
            metadata = decode_metadata(headers)
            call_stream.metadata = cast("Any", metadata)  # grpclib's NewType of the same
            call = Call(path, self._peer, metadata, call_stream, self.draining)
            await self._run(call, method, deadline)
        except GRPCError as error:
            call_stream.finish(error.status, error.message, error.details)
        except asyncio.CancelledError:
            if asyncio.current_task() in self._expired:
                call_stream.finish(Status.DEADLINE_EXCEEDED, "the call took longer than this server allows")
            elif self._reason is not None:
                call_stream.finish(Status.UNAVAILABLE, self._reason)
            raise
        except H2Error:
            raise
        except Exception:
            _logger.exception("unexpected error in a handler method=%s peer=%s", path, self._peer.address)
            call_stream.finish(Status.INTERNAL, "internal error")
        else:
            if method.cardinality.server_streaming or call_stream.answered or call_stream.finished:
                call_stream.finish(Status.OK)
            else:
                _logger.error("a handler returned without an answer method=%s", path)
                call_stream.finish(Status.INTERNAL, "internal error")

    async def _run(self, call: Call, method: Handler, deadline: Deadline | None) -> None:
        set_current_call(call)
        limits = self._service.limits
        own = limits.stream_timeout if method.cardinality.server_streaming else limits.handler_timeout
        if own is not None:
            # Kept by `expire`, which looks at all calls together: a timer for each would cost more than it is worth.
            self._expires[cast("asyncio.Task[None]", asyncio.current_task())] = monotonic() + own
        if deadline is None:
            await self._proceed(call, method)
            return
        timer = asyncio.timeout(deadline.time_remaining())
        try:
            async with timer:
                await self._proceed(call, method)
        except TimeoutError:
            if not timer.expired():
                raise
            raise GRPCError(Status.DEADLINE_EXCEEDED, "deadline exceeded") from None

    async def _proceed(self, call: Call, method: Handler) -> None:
        if self._service.interceptor is None:
            await method.func(call.stream)
            return

        async def proceed() -> None:
            await method.func(call.stream)

        await self._service.interceptor(call, proceed)

    def _is_grpc(self, stream: CallStream, fields: dict[str, str]) -> bool:
        """Answer by HTTP status what is no gRPC request (gRPC over HTTP/2, "Requests")."""
        content_type = fields.get("content-type", "")
        base, _, rest = content_type.partition("+")
        if fields.get(":method") != "POST":
            self._refuse(stream, [(":status", "405")], Status.INTERNAL, "the method of a gRPC request is POST")
        elif base.partition(";")[0].strip() != GRPC_CONTENT_TYPE or rest.partition(";")[0].strip() not in {"", "proto"}:
            message = f"invalid gRPC request content-type {content_type!r}"
            self._refuse(stream, [(":status", "415")], Status.INVALID_ARGUMENT, message)
        elif (encoding := fields.get("grpc-encoding", "identity")) != "identity":
            headers = [*response_headers(), ("grpc-accept-encoding", "identity")]
            message = f"grpc: Decompressor is not installed for grpc-encoding {encoding!r}"
            self._refuse(stream, headers, Status.UNIMPLEMENTED, message)
        else:
            return True
        return False

    @staticmethod
    def _refuse(stream: CallStream, headers: Headers, status: Status, message: str | None) -> None:
        stream.send_headers_nowait([*headers, *status_headers(status, message)], end_stream=True)
        if stream.closable:
            stream.reset_nowait(ErrorCodes.NO_ERROR)
