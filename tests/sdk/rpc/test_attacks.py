"""Hostile peers against a server in a process of its own: its memory stays bounded and other callers unharmed."""

import asyncio
from typing import Any

import anyio
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

pytestmark = pytest.mark.anyio
MIB = 1 << 20
UNARY, COLLECT, SLEEP, FLOOD = (f"/interop.Echo/{name}" for name in ("Unary", "Collect", "Sleep", "Flood"))


async def push(client: Any, data: bytes) -> bool:
    """Write and wait until the server has taken it; False when it has hung up or takes no more."""
    client.writer.write(data)
    try:
        async with asyncio.timeout(2):
            await client.writer.drain()
    except (TimeoutError, ConnectionError):
        return False
    return not client.writer.is_closing()


async def test_a_prefix_of_4_gib(attack: Any, raw: Any) -> None:
    async def what(victim: Any) -> None:
        async with raw.connect(victim.path) as client:
            for stream in range(1, 100, 2):
                client.write(client.request(stream, UNARY), client.data(stream, b"\0\xff\xff\xff\xff"))
            for stream in range(1, 100, 2):
                answer = await client.until(HeadersFrame, stream=stream)
                assert answer.fields["grpc-status"] == "8"

    await attack(what, limit=16 * MIB)


async def test_a_hundred_messages_each_short_of_a_byte(attack: Any, raw: Any) -> None:
    """Each is within bounds; together they are 400 MiB a connection. Some are refused, none is gathered beyond."""
    size = 4 * MIB

    async def one_connection(victim: Any) -> None:
        async with raw.connect(victim.path, INITIAL_WINDOW_SIZE=2**31 - 1) as client:
            streams = range(1, 200, 2)
            client.write(*(client.request(stream, COLLECT) for stream in streams))
            client.write(*(client.data(stream, b"\0" + size.to_bytes(4, "big")) for stream in streams))
            windows = {0: 1 * MIB} | dict.fromkeys(streams, 512 * 1024)

            async def read() -> None:
                while (frame := await client.frame()) is not None:
                    if isinstance(frame, WindowUpdateFrame):
                        windows[frame.stream_id] = windows.get(frame.stream_id, 0) + frame.window_increment
                    elif isinstance(frame, RstStreamFrame | HeadersFrame):
                        windows.pop(frame.stream_id, None)

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                sent = dict.fromkeys(streams, 0)
                quiet = 0
                while quiet < 20:
                    quiet += 1
                    for stream in streams:
                        while windows.get(stream, 0) >= 16384 <= windows[0] and sent[stream] < size - 20000:
                            windows[stream] -= 16384
                            windows[0] -= 16384
                            sent[stream] += 16384
                            client.write(client.data(stream, bytes(16384)))
                            quiet = 0
                    await asyncio.sleep(0.02)
                group.cancel_scope.cancel()

    async def what(victim: Any) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(one_connection, victim)

    await attack(what, limit=120 * MIB, max_buffered_per_connection=8 * MIB, max_buffered=16 * MIB)


async def test_a_million_frames_of_one_byte(attack: Any, raw: Any) -> None:
    async def what(victim: Any) -> None:
        async with raw.connect(victim.path) as client:
            client.write(client.request(1, SLEEP), client.data(1, client.message(b"\x08\xc0\xa9\x07")))
            one = client.data(1, b"x").serialize()
            for _ in range(60):
                await push(client, one * 5000)

    await attack(what, limit=24 * MIB)


async def test_rapid_reset(attack: Any, raw: Any) -> None:
    """CVE-2023-44487: open, reset, open, reset."""

    async def what(victim: Any) -> None:
        for _ in range(3):
            async with raw.connect(victim.path) as client:
                stream, alive = 1, True
                while alive and stream < 200_000:
                    burst = b""
                    for _ in range(500):
                        burst += client.request(stream, SLEEP, end=True).serialize()
                        burst += RstStreamFrame(stream, error_code=8).serialize()
                        stream += 2
                    alive = await push(client, burst)
                frames = await client.closed()
                assert stream < 20_000
                goodbye = [frame for frame in frames if isinstance(frame, GoAwayFrame)]
                assert not goodbye or (goodbye[-1].error_code, goodbye[-1].additional_data) == (11, b"too_many_resets")

    await attack(what)


async def test_made_you_reset(attack: Any, raw: Any) -> None:
    """CVE-2025-8671: the peer breaks the rules of a stream so that the server resets it and works on."""

    async def what(victim: Any) -> None:
        async with raw.connect(victim.path) as client:
            stream, alive = 1, True
            while alive and stream < 100_000:
                burst = b""
                for _ in range(200):
                    burst += client.request(stream, SLEEP).serialize()
                    burst += WindowUpdateFrame(stream, window_increment=2**31 - 1).serialize()
                    stream += 2
                alive = await push(client, burst)
            await client.closed()
            assert stream < 20_000

    await attack(what)


def control_frames() -> dict[str, bytes]:
    return {
        "ping": PingFrame(0, opaque_data=b"abcdefgh").serialize(),
        "settings": SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 70000}).serialize(),
        "empty settings": SettingsFrame(0).serialize(),
        "priority": PriorityFrame(3, stream_weight=1).serialize(),
        "unknown": b"\0\0\1\xbe\0\0\0\0\0x",
        "empty data": DataFrame(1).serialize(),
        "padded empty data": DataFrame(1, pad_length=100, flags=["PADDED"]).serialize(),
        "window update": WindowUpdateFrame(0, window_increment=1).serialize(),
        "unasked ping ack": PingFrame(0, opaque_data=b"abcdefgh", flags=["ACK"]).serialize(),
        "ping ack that the server waits for": PingFrame(0, opaque_data=b"goaway!!", flags=["ACK"]).serialize(),
        "settings ack": SettingsFrame(0, flags=["ACK"]).serialize(),
        "goaway": GoAwayFrame(0, last_stream_id=0).serialize(),
    }


@pytest.mark.parametrize("kind", control_frames())
async def test_floods_of_frames_that_carry_nothing(attack: Any, raw: Any, kind: str) -> None:
    async def what(victim: Any) -> None:
        async with raw.connect(victim.path) as client:
            client.write(client.request(1, COLLECT))
            one, sent = control_frames()[kind], 0
            while sent < 500_000 and await push(client, one * 1000):
                sent += 1000
            assert sent < 100_000
            await client.closed()

    await attack(what, limit=24 * MIB)


async def test_asking_and_not_reading_the_answers(attack: Any, raw: Any) -> None:
    """A PING a millisecond is answered; a peer that never reads the answers is let go before they fill the memory."""

    async def what(victim: Any) -> None:
        async with raw.connect(victim.path) as client:
            client.writer.transport.pause_reading()
            one, sent = PingFrame(0, opaque_data=b"abcdefgh").serialize(), 0
            while sent < 1_000_000 and await push(client, one * 1000):
                sent += 1000
            assert sent < 1_000_000

    limits = {"max_control_frames": 10**9, "max_ping_strikes": 10**9, "max_unsent_bytes": 65536}
    await attack(what, limit=24 * MIB, **limits)


async def test_headers_that_are_too_many(attack: Any, raw: Any) -> None:
    async def what(victim: Any) -> None:
        for _ in range(20):
            async with raw.connect(victim.path) as client:
                extra = [(f"x-{number}", "v" * 100) for number in range(2000)]
                block = client.block(UNARY, *extra)
                client.write(HeadersFrame(1, data=block[:16000]))
                for start in range(16000, len(block), 16000):
                    client.write(ContinuationFrame(1, data=block[start : start + 16000]))
                client.write(ContinuationFrame(1, flags=["END_HEADERS"]))
                await client.closed()

    await attack(what, limit=16 * MIB)


async def test_a_small_block_that_unpacks_to_much(attack: Any, raw: Any) -> None:
    """The HPACK bomb: one long field in the table, then references to it."""

    async def what(victim: Any) -> None:
        async with raw.connect(victim.path) as client:
            client.write(client.request(1, UNARY, ("x-bomb", "b" * 3900)))
            bomb = client.encoder.encode([("x-bomb", "b" * 3900)]) * 12000
            client.write(HeadersFrame(3, data=bomb, flags=["END_HEADERS"]))
            await client.closed()

    await attack(what, limit=16 * MIB)


async def test_continuation_without_end(attack: Any, raw: Any) -> None:
    async def what(victim: Any) -> None:
        async with raw.connect(victim.path) as client:
            client.write(HeadersFrame(1, data=client.block(UNARY)))
            sent = 0
            while sent < 100_000 and await push(client, ContinuationFrame(1).serialize() * 100):
                sent += 100
            assert sent < 100_000

    await attack(what, limit=16 * MIB)


async def test_a_frame_longer_than_allowed(attack: Any, raw: Any) -> None:
    """h2 gathers all of it, up to 16 MiB, before it looks at the length."""

    async def what(victim: Any) -> None:
        for kind in (0, 1, 4, 0xBE):
            async with raw.connect(victim.path) as client:
                client.write(b"\xff\xff\xff" + bytes([kind]) + b"\0\0\0\0\1")
                sent = 0
                while sent < 16 * MIB and await push(client, bytes(65536)):
                    sent += 65536
                assert sent < 8 * MIB

    await attack(what, limit=16 * MIB)


async def test_thousands_of_idle_connections(attack: Any, raw: Any) -> None:
    async def what(victim: Any) -> None:
        async with anyio.create_task_group() as group:
            limiter = anyio.CapacityLimiter(50)
            opened = 0

            async def idle(preface: bool) -> None:
                nonlocal opened
                async with limiter:
                    context = raw.connect(victim.path, preface=preface)
                    await context.__aenter__()
                opened += 1
                try:
                    await anyio.sleep_forever()
                finally:
                    await context.__aexit__(None, None, None)

            for number in range(2000):
                group.start_soon(idle, bool(number % 4))
            with anyio.fail_after(60):
                while opened < 2000:
                    await anyio.sleep(0.05)
            await anyio.sleep(1.5)
            assert victim.descriptors < 500
            group.cancel_scope.cancel()

    await attack(what, limit=64 * MIB, max_connections=400, header_timeout=1.0)


async def test_answers_that_nobody_reads(attack: Any, raw: Any) -> None:
    """A window of 2 GiB, a flood of answers, and a client that reads none of them."""

    async def what(victim: Any) -> None:
        async with anyio.create_task_group() as group:

            async def deaf() -> None:
                async with raw.connect(victim.path, INITIAL_WINDOW_SIZE=2**31 - 1, MAX_FRAME_SIZE=2**24 - 1) as client:
                    client.writer.transport.pause_reading()
                    client.write(WindowUpdateFrame(0, window_increment=2**31 - 1 - 65535))
                    request = client.message(b"\x08" + b"\x80\x80\x04")
                    for stream in range(1, 60, 2):
                        client.write(client.request(stream, FLOOD), client.data(stream, request, end=True))
                    await anyio.sleep(2)

            for _ in range(5):
                group.start_soon(deaf)

    await attack(what, limit=64 * MIB, send_timeout=1.0)
