"""What a stream has received: bytes, handed out in the sizes a message needs, acknowledged as they are taken."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from grpclib.encoding.base import CodecBase

from authsec_sdk.rpc.budget import ByteBudget
from authsec_sdk.rpc.status import GRPCError, Status

_T = TypeVar("_T")
PREFIX = 5


class ReceiveBuffer:
    """In place of grpclib's buffer, which takes an empty DATA frame for the end and asserts that messages are whole.

    Bytes not yet asked for count against the flow-control window of the peer; bytes gathered for an incomplete message
    count against a budget. Frames are joined as they come, so a million one-byte frames cost a million bytes.
    """

    __slots__ = ("_ack", "_budget", "_eof", "_held", "_overhead", "_pending", "_waiter")

    def __init__(self, ack: Callable[[int], None], budget: ByteBudget) -> None:
        self._ack = ack
        self._budget = budget
        self._pending = bytearray()
        self._overhead = 0  # padding: flow-controlled, but not data
        self._held = bytearray()
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None

    def add(self, data: bytes, ack_size: int) -> None:
        """Take in a DATA frame."""
        self._pending += data
        self._overhead += ack_size - len(data)
        self._wake()

    def eof(self) -> None:
        """The peer has ended its side."""
        self._eof = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_message(self, limit: int) -> tuple[int, bytes] | None:
        """Flag and content of the next message if it is there in full and within `limit`; None if it must be read."""
        pending = self._pending
        if self._held or len(pending) < PREFIX:
            return None
        end = PREFIX + int.from_bytes(pending[1:PREFIX], "big")
        if len(pending) < end or end - PREFIX > limit:
            return None
        flag, content = pending[0], bytes(pending[PREFIX:end])
        del pending[:end]
        self._acknowledge(end)
        return flag, content

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or none if the stream ended before the first of them.

        Raises: GRPCError INTERNAL if it ended in between, RESOURCE_EXHAUSTED if the budget has no room.
        """
        while len(self._held) < size:
            if self._pending:
                self._gather(size - len(self._held))
            elif self._eof:
                if self._held:
                    raise GRPCError(Status.INTERNAL, "the stream ended in the middle of a message")
                return b""
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        taken = bytes(self._held[:size])
        del self._held[:size]
        self._budget.give(size)
        return taken

    def _gather(self, wanted: int) -> None:
        part = self._pending[:wanted]
        self._budget.take(len(part))
        del self._pending[:wanted]
        self._held += part
        self._acknowledge(len(part))

    def _acknowledge(self, size: int) -> None:
        if not self._pending:
            size += self._overhead
            self._overhead = 0
        self._ack(size)

    def unacked_size(self) -> int:
        """Give back what was gathered and forget the rest; returns how many bytes are still to be acknowledged."""
        self._budget.give(len(self._held))
        unacked = len(self._pending) + self._overhead
        self._held.clear()
        self._pending.clear()
        self._overhead = 0
        return unacked


async def receive_message(stream: Any, codec: CodecBase, message_type: type[_T], limit: int) -> _T | None:
    """The next message of a stream, None at its end.

    Raises: GRPCError RESOURCE_EXHAUSTED if it announces more than `limit` bytes (before one of them is gathered: the
    prefix alone can claim 4 GiB), UNIMPLEMENTED if it is compressed, INTERNAL if it is not a message of that type.
    """
    whole = stream.buffer.take_message(limit)
    if whole is not None:
        flag, data = whole
        return decode(flag, data, codec, message_type)
    prefix = await stream.recv_data(PREFIX)
    if not prefix:
        return None
    length = int.from_bytes(prefix[1:], "big")
    if length > limit:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({length} vs. {limit})")
    data = await stream.recv_data(length) if length else b""
    if len(data) != length:
        raise GRPCError(Status.INTERNAL, "the stream ended in the middle of a message")
    return decode(prefix[0], data, codec, message_type)


def decode(flag: int, data: bytes, codec: CodecBase, message_type: type[_T]) -> _T:
    """The message. Raises: as `receive_message`."""
    if flag:
        # gRPC over HTTP/2, "Compressed-Flag": set only if the encoding is one we announced, and we announce none.
        raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not supported")
    try:
        message: _T = codec.decode(data, message_type)
    except DecodeError as error:
        raise GRPCError(Status.INTERNAL, "grpc: error unmarshalling message") from error
    return message
