"""What needs no connection: backoff, allowances, verdicts, headers, statuses, buffers."""

import asyncio
import base64
import random

import pytest
from grpclib.metadata import Deadline
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.proto import any_pb2, status_pb2, wrappers_pb2
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.rpc import GRPCError, ServerLimits, Status, error_details
from authsec_sdk.rpc.backoff import full_jitter
from authsec_sdk.rpc.budget import Allowance, ByteBudget
from authsec_sdk.rpc.metadata import decode_deadline, decode_metadata, encode_timeout
from authsec_sdk.rpc.receive import ReceiveBuffer, receive_message
from authsec_sdk.rpc.status import decode_bin, decode_details, encode_bin, encode_details
from authsec_sdk.rpc.watch import GOAWAY_READ, Verdict, Vitals, judge

LIMITS = ServerLimits()


# --- backoff


@given(st.integers(0, 10**6), st.floats(0, 100))
def test_backoff_stays_within_its_cap(failures: int, cap: float) -> None:
    assert 0 <= full_jitter(failures, cap) <= cap


def test_backoff_begins_at_once_grows_and_uses_its_whole_range() -> None:
    def highest(low: float, high: float) -> float:
        assert low == 0
        return high

    assert full_jitter(0, 5) == 0
    bounds = [full_jitter(n, 5, uniform=highest) for n in range(1, 12)]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(0.1)
    assert bounds[-1] == 5
    rng = random.Random(1)
    drawn = [full_jitter(30, 5, uniform=rng.uniform) for _ in range(500)]
    assert min(drawn) < 0.2
    assert max(drawn) > 4.8


# --- allowances


def test_an_allowance_is_spent_and_refills_evenly() -> None:
    allowance = Allowance(10, 5.0, now=100.0)
    assert all(allowance.take(100.0) for _ in range(10))
    assert not allowance.take(100.0)
    assert not allowance.take(100.4)  # what was refused is owed
    assert allowance.take(101.5)
    allowance.give(1000)
    assert sum(allowance.take(101.5) for _ in range(20)) == 10


def test_a_byte_budget_counts_for_itself_and_its_parent() -> None:
    parent = ByteBudget(100)
    one, other = ByteBudget(80, parent), ByteBudget(80, parent)
    one.take(60)
    with pytest.raises(GRPCError):
        one.take(21)
    with pytest.raises(GRPCError):
        other.take(41)
    assert (one.used, other.used, parent.used) == (60, 0, 60)
    one.give(60)
    other.take(80)
    assert parent.used == 80


def test_a_full_parent_frees_what_others_hold() -> None:
    parent = ByteBudget(100)
    hoard, honest = ByteBudget(100, parent), ByteBudget(100, parent)
    parent.on_full = lambda wanting: wanting is honest and (hoard.close() or True)
    hoard.take(100)
    honest.take(50)
    assert (hoard.used, honest.used, parent.used) == (0, 50, 50)
    hoard.give(100)  # comes late, counts no more
    assert parent.used == 50
    with pytest.raises(GRPCError):
        hoard.take(1)


# --- verdicts


def vitals(**changes: object) -> Vitals:
    values: dict[str, object] = {
        "opened_at": 0.0,
        "leave_at": None,
        "last_received": 0.0,
        "idle_since": None,
        "spoke": True,
    }
    return Vitals(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "now", "verdict"),
    [
        (vitals(), 1, Verdict.KEEP),
        (vitals(spoke=False), 10, Verdict.KEEP),
        (vitals(spoke=False), 10.1, Verdict.DROP),
        (vitals(incomplete_since=5.0, last_received=15.0), 15, Verdict.KEEP),
        (vitals(incomplete_since=5.0, last_received=15.0), 15.1, Verdict.DROP),
        (vitals(last_received=0.0), 300.1, Verdict.PING),
        (vitals(last_received=0.0, pinged_at=301.0), 320, Verdict.KEEP),
        (vitals(last_received=0.0, pinged_at=301.0), 321.1, Verdict.DROP),
        (vitals(last_received=302.0, pinged_at=301.0), 330, Verdict.KEEP),
        (vitals(idle_since=0.0, last_received=290.0), 300, Verdict.KEEP),
        (vitals(idle_since=0.0, last_received=290.0), 300.1, Verdict.ASK_TO_LEAVE),
        (vitals(leave_at=180.0, last_received=170.0), 179, Verdict.KEEP),
        (vitals(leave_at=180.0, last_received=170.0), 180, Verdict.ASK_TO_LEAVE),
        (vitals(asked_to_leave_at=100.0, last_received=100.0, grace=10), 100.5, Verdict.KEEP),
        (vitals(asked_to_leave_at=100.0, goaway_read=True, last_received=100.0), 100.1, Verdict.NAME_LAST_STREAM),
        (vitals(asked_to_leave_at=100.0, last_received=100.0), 100.1 + GOAWAY_READ, Verdict.NAME_LAST_STREAM),
        (vitals(asked_to_leave_at=100.0, last_stream_named=True, idle_since=101.0, grace=9), 102, Verdict.CLOSE),
        (vitals(asked_to_leave_at=100.0, last_stream_named=True, grace=9), 109, Verdict.KEEP),
        (vitals(asked_to_leave_at=100.0, last_stream_named=True, grace=9), 109.1, Verdict.END_CALLS),
        (vitals(asked_to_leave_at=100.0, last_stream_named=True, grace=9, calls_ended=True), 110, Verdict.KEEP),
    ],
)
def test_verdicts(state: Vitals, now: float, verdict: Verdict) -> None:
    assert judge(state, now, LIMITS) is verdict


def test_local_limits_let_streams_live() -> None:
    limits = ServerLimits.local(max_calls=3)
    assert limits.max_calls == 3
    state = vitals(idle_since=0.0)
    assert judge(state, 10**9, limits) is Verdict.KEEP


# --- headers


@given(st.floats(1e-9, 1e12))
def test_timeouts_fit_eight_digits_and_never_grow(seconds: float) -> None:
    text = encode_timeout(seconds)
    assert len(text) <= 9
    deadline = decode_deadline(text)
    assert deadline is not None
    assert deadline.time_remaining() <= seconds * 1.0001 + 1e-6


@pytest.mark.parametrize("text", ["", "1", "S", "-1S", "1.5S", "123456789S", "1s", "1S ", "٣S", "9" * 5000 + "S"])
def test_wrong_timeouts(text: str) -> None:
    with pytest.raises(GRPCError) as caught:
        decode_deadline(text)
    assert caught.value.status is Status.INTERNAL


def test_a_deadline_in_the_past_is_no_error() -> None:
    deadline = decode_deadline("0n")
    assert isinstance(deadline, Deadline)
    assert decode_deadline(None) is None


@given(st.binary(max_size=100), st.booleans())
def test_binary_values_with_and_without_padding(value: bytes, padded: bool) -> None:
    text = base64.b64encode(value).decode() if padded else encode_bin(value)
    assert decode_bin(text) == value


@pytest.mark.parametrize("text", ["a", "a b=", "Zm9v!", "ü", "Zg=a"])
def test_wrong_binary_values(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_bin(text)
    with pytest.raises(GRPCError):
        decode_metadata([("x-bin", text)])


def test_metadata() -> None:
    headers = [(":path", "/"), ("te", "trailers"), ("grpc-timeout", "1S"), ("a", "1"), ("a", "2"), ("b-bin", "AA,/w==")]
    assert list(decode_metadata(headers).items()) == [("a", "1"), ("a", "2"), ("b-bin", b"\0"), ("b-bin", b"\xff")]


# --- status details


def test_details_round_trip_and_unknown_ones_are_skipped() -> None:
    denied = types_pb2.PermissionDeniedDetails(reason=types_pb2.PermissionDeniedDetails.AGENT_BANNED)
    packed = any_pb2.Any()
    packed.Pack(wrappers_pb2.StringValue(value="x"))
    value = encode_details(Status.PERMISSION_DENIED, "no", [packed, denied])
    assert "=" not in value
    error = GRPCError(Status.PERMISSION_DENIED, "no", decode_details(value))
    assert error_details(error, types_pb2.PermissionDeniedDetails) == denied
    assert error_details(error, types_pb2.Entry) is None
    assert error_details(GRPCError(Status.OK), types_pb2.Entry) is None
    assert error_details(GRPCError(Status.ABORTED, "x", [denied]), types_pb2.PermissionDeniedDetails) is denied
    assert status_pb2.Status.FromString(decode_bin(value)).code == 7


@given(st.text(max_size=40))
def test_malformed_details_are_no_details(text: str) -> None:
    assert isinstance(decode_details(text), tuple)


def test_a_malformed_detail_is_passed_over() -> None:
    broken = any_pb2.Any(type_url="type.googleapis.com/spire.api.types.Entry", value=b"\xff\xff")
    assert error_details(GRPCError(Status.ABORTED, "x", [broken]), types_pb2.Entry) is None


# --- what is received


class Feed:
    """A stream made of a buffer."""

    def __init__(self, limit: int = 2**30) -> None:
        self.acked = 0
        self.budget = ByteBudget(limit)
        self.buffer = ReceiveBuffer(self.ack, self.budget)

    def ack(self, size: int) -> None:
        self.acked += size

    async def recv_data(self, size: int) -> bytes:
        return await self.buffer.read(size)


class Codec:
    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: object) -> bytes:
        return message

    def decode(self, data: bytes, message_type: object) -> bytes:
        return data


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_messages_come_out_whole_however_they_were_cut(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    feed = Feed()
    padding = 0
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        feed.buffer.add(stream[start:end], end - start + 3)
        padding += 3
    feed.buffer.eof()

    async def read() -> list[bytes]:
        got = []
        while (message := await receive_message(feed, Codec(), bytes, 100)) is not None:
            got.append(message)
        return got

    assert asyncio.run(read()) == messages
    assert feed.acked + feed.buffer.unacked_size() == len(stream) + padding
    assert feed.budget.used == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\0\0\0\0\5abc", Status.INTERNAL),
        (b"\0\0\0", Status.INTERNAL),
        (b"\0\0\0\0\5", Status.INTERNAL),
        (b"\1\0\0\0\0", Status.UNIMPLEMENTED),
        (b"\0\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED),
        (b"\0\0\0\0\x65", Status.RESOURCE_EXHAUSTED),
    ],
)
def test_wrong_messages(data: bytes, status: Status) -> None:
    feed = Feed()
    feed.buffer.add(data, len(data))
    feed.buffer.eof()
    with pytest.raises(GRPCError) as caught:
        asyncio.run(receive_message(feed, Codec(), bytes, 100))
    assert caught.value.status is status


def test_a_reader_waits_for_what_is_not_there_yet_and_takes_no_more_than_it_needs() -> None:
    async def run() -> None:
        feed = Feed()
        reading = asyncio.ensure_future(receive_message(feed, Codec(), bytes, 100))
        feed.buffer.add(b"\0\0\0", 3)
        await asyncio.sleep(0)
        feed.buffer.add(b"", 0)  # an empty frame is no end
        await asyncio.sleep(0)
        feed.buffer.add(b"\0\2ab" + b"next message", 16)
        assert await reading == b"ab"
        assert feed.acked == 7
        assert feed.buffer.unacked_size() == 12

    asyncio.run(run())
