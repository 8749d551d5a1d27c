"""CPU of a handshake with policy and hot swap ÷ the standard library's without tickets, client and server together.

Over loopback with asyncio and uvloop, as programs make connections; and in memory, where nothing but TLS is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from typing import cast

import uvloop

from bench import _results
from bench._heap import keep
from bench._paired import compare
from bench._tls import Workloads

CLAIM = 1.03
Pair = tuple[ssl.SSLContext, ssl.SSLContext]


def in_memory(pair: Pair, handshakes: int) -> float:
    """Return microseconds of CPU per handshake, both sides, through memory buffers."""
    server_context, client_context = pair
    begun = time.process_time()
    for _ in range(handshakes):
        to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
        client = client_context.wrap_bio(to_client, from_client, server_hostname="x")
        server = server_context.wrap_bio(to_server, from_server, server_side=True)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        to_server.write(from_client.read())
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        to_client.write(from_server.read())
        client.do_handshake()
        to_server.write(from_client.read())
        server.do_handshake()
    return (time.process_time() - begun) / handshakes * 1e6


class _Greet(asyncio.Protocol):
    """A server that says one byte, so that the client knows the handshake to be complete on both sides."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"x")


class _Await(asyncio.Protocol):
    def __init__(self) -> None:
        self.greeted = asyncio.get_running_loop().create_future()

    def data_received(self, _data: bytes) -> None:
        self.greeted.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(error or ConnectionResetError())


async def over_loopback(pair: Pair, handshakes: int) -> float:
    """Return microseconds of CPU per connection, both sides, from connect to the first byte."""
    server_context, client_context = pair
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Greet, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        begun = time.process_time()
        for _ in range(handshakes):
            transport, protocol = await loop.create_connection(
                _Await, "127.0.0.1", port, ssl=client_context, server_hostname="x"
            )
            await protocol.greeted
            transport.abort()
        spent = time.process_time() - begun
    return spent / handshakes * 1e6


def main() -> int:
    """Measure and print; return 1 where the claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=60)
    arguments.add_argument("--handshakes", type=int, default=50, help="per round")
    options = arguments.parse_args()
    workloads = Workloads()
    ours, stdlib = workloads.ours(), workloads.stdlib()
    met = True

    def both(measure: Callable[[Pair, int], float]) -> tuple[Callable[[], float], Callable[[], float]]:
        return lambda: measure(ours, options.handshakes), lambda: measure(stdlib, options.handshakes)

    for name, loop in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        with asyncio.Runner(loop_factory=loop) as runner:
            run = runner.run
            comparison = compare(
                f"handshake CPU ÷ stdlib without tickets, {name}",
                *both(lambda pair, count, run=run: run(over_loopback(pair, count))),  # type: ignore[misc]
                rounds=options.rounds,
            )
        met &= comparison.report(at_most=CLAIM, unit="µs")
    compare("handshake CPU ÷ stdlib, in memory", *both(in_memory), rounds=options.rounds).report(unit="µs")
    return 0 if met else 1


if __name__ == "__main__":
    keep("handshake")
    raise SystemExit(_results.run("handshake", main))
