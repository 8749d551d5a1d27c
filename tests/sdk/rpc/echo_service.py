"""interop.Echo in Python: what tests/interop/go/echo.go serves, served and called by ours."""

import asyncio
import json
from typing import Any

import grpclib.client
from grpclib.const import Cardinality, Handler

from authsec_sdk.proto import empty_pb2, status_pb2, wrappers_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status, current_call

Bytes = wrappers_pb2.BytesValue
Int64 = wrappers_pb2.Int64Value
String = wrappers_pb2.StringValue
Empty = empty_pb2.Empty
METHODS = {
    "Unary": (Cardinality.UNARY_UNARY, Bytes, Bytes),
    "Fail": (Cardinality.UNARY_UNARY, status_pb2.Status, Empty),
    "Crash": (Cardinality.UNARY_UNARY, Empty, Empty),
    "Sleep": (Cardinality.UNARY_UNARY, Int64, Int64),
    "Counts": (Cardinality.UNARY_UNARY, Empty, String),
    "Metadata": (Cardinality.UNARY_UNARY, Empty, String),
    "Silent": (Cardinality.UNARY_UNARY, Empty, Empty),
    "Collect": (Cardinality.STREAM_UNARY, Bytes, Int64),
    "CollectFirst": (Cardinality.STREAM_UNARY, Bytes, Int64),
    "Repeat": (Cardinality.UNARY_STREAM, Int64, Int64),
    "Endless": (Cardinality.UNARY_STREAM, Bytes, Bytes),
    "Flood": (Cardinality.UNARY_STREAM, Int64, Bytes),
    "Chat": (Cardinality.STREAM_STREAM, Bytes, Bytes),
    "ChatOnce": (Cardinality.STREAM_STREAM, Bytes, Bytes),
    "ChatFail": (Cardinality.STREAM_STREAM, status_pb2.Status, Empty),
}
CALLS = {
    Cardinality.UNARY_UNARY: grpclib.client.UnaryUnaryMethod,
    Cardinality.UNARY_STREAM: grpclib.client.UnaryStreamMethod,
    Cardinality.STREAM_UNARY: grpclib.client.StreamUnaryMethod,
    Cardinality.STREAM_STREAM: grpclib.client.StreamStreamMethod,
}


def path(method: str) -> str:
    return f"/interop.Echo/{method}"


def error_of(wanted: status_pb2.Status) -> GRPCError:
    return GRPCError(Status(wanted.code), wanted.message, list(wanted.details))


class Echo:
    """The handlers; `counts` tells how Sleep and Endless calls ended."""

    def __init__(self) -> None:
        self.counts = {"started": 0, "cancelled": 0, "finished": 0}

    def __mapping__(self) -> dict[str, Handler]:
        return {path(name): Handler(getattr(self, name), *of) for name, of in METHODS.items()}

    async def Unary(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())

    async def Fail(self, stream: Any) -> None:
        raise error_of(await stream.recv_message())

    async def Crash(self, stream: Any) -> None:
        raise RuntimeError("the password is swordfish")

    async def Silent(self, stream: Any) -> None:
        await stream.recv_message()

    async def Sleep(self, stream: Any) -> None:
        request = await stream.recv_message()
        self.counts["started"] += 1
        try:
            await asyncio.sleep(request.value / 1000)
        except asyncio.CancelledError:
            self.counts["cancelled"] += 1
            raise
        self.counts["finished"] += 1
        await stream.send_message(request)

    async def Counts(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(String(value=json.dumps(self.counts)))

    async def Metadata(self, stream: Any) -> None:
        await stream.recv_message()
        seen: dict[str, list[str]] = {}
        for key, value in current_call().metadata.items():
            seen.setdefault(key, []).append(value.hex() if isinstance(value, bytes) else value)
        await stream.send_initial_metadata(metadata={"early": "header", "early-bin": b"\x00\xff"})
        await stream.send_message(String(value=json.dumps(seen)))
        await stream.send_trailing_metadata(metadata={"late": "trailer", "late-bin": b"\xfe\x01\x02"})

    async def Collect(self, stream: Any) -> None:
        total = 0
        async for message in stream:
            total += len(message.value)
        await stream.send_message(Int64(value=total))

    async def CollectFirst(self, stream: Any) -> None:
        await stream.send_message(Int64(value=len((await stream.recv_message()).value)))

    async def Repeat(self, stream: Any) -> None:
        for number in range((await stream.recv_message()).value):
            await stream.send_message(Int64(value=number))

    async def Endless(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())
        self.counts["started"] += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.counts["cancelled"] += 1
            raise

    async def Flood(self, stream: Any) -> None:
        """Messages of that size until the client has enough."""
        message = Bytes(value=bytes((await stream.recv_message()).value))
        while True:
            await stream.send_message(message)

    async def Chat(self, stream: Any) -> None:
        async for message in stream:
            await stream.send_message(message)

    async def ChatOnce(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())

    async def ChatFail(self, stream: Any) -> None:
        raise error_of(await stream.recv_message())


class EchoStub:
    """The calls."""

    def __init__(self, channel: Channel) -> None:
        for name, (cardinality, request, reply) in METHODS.items():
            setattr(self, name, CALLS[cardinality](channel, path(name), request, reply))

    def __getattr__(self, name: str) -> Any:  # for readers and type checkers: set above
        raise AttributeError(name)
