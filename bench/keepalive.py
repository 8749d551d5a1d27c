"""Time of a request and its answer on an open connection, ours ÷ the standard library's: p50 over raw asyncio streams.

Nothing but asyncio and TLS is in the way, so that what ours adds shows; both ends share one process and one loop.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import statistics
import time

import uvloop

from bench import _results
from bench._heap import keep
from bench._paired import compare
from bench._tls import Workloads

CLAIM = 1.02
Pair = tuple[ssl.SSLContext, ssl.SSLContext]


class Connection:
    """One connection that stays open, and a server that echoes."""

    def __init__(self, pair: Pair, size: int) -> None:
        self._server_context, self._client_context = pair
        self._message = b"x" * size

    async def open(self) -> None:
        """Start the server and connect."""
        self._server = await asyncio.start_server(self._echo, "127.0.0.1", 0, ssl=self._server_context)
        port = self._server.sockets[0].getsockname()[1]
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self._client_context, server_hostname="x"
        )

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(len(self._message)))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    async def round(self, requests: int) -> float:
        """Return the median time of a request in microseconds."""
        spent = []
        for _ in range(requests):
            begun = time.perf_counter_ns()
            self._writer.write(self._message)
            await self._reader.readexactly(len(self._message))
            spent.append(time.perf_counter_ns() - begun)
        return statistics.median(spent) / 1e3

    async def close(self) -> None:
        """End the connection, then the server."""
        self._writer.close()
        await self._writer.wait_closed()
        self._server.close()
        await self._server.wait_closed()


def main() -> int:
    """Measure and print; return 1 where the claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=60)
    arguments.add_argument("--requests", type=int, default=300, help="per round")
    options = arguments.parse_args()
    workloads = Workloads()
    met = True
    for name, loop in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        for size in (100, 65536):
            with asyncio.Runner(loop_factory=loop) as runner:
                run = runner.run
                ours, stdlib = Connection(workloads.ours(), size), Connection(workloads.stdlib(), size)
                run(ours.open())
                run(stdlib.open())
                comparison = compare(
                    f"keep-alive p50 ÷ stdlib, {name}, {size} B",
                    lambda run=run, it=ours: run(it.round(options.requests)),  # type: ignore[misc]
                    lambda run=run, it=stdlib: run(it.round(options.requests)),  # type: ignore[misc]
                    rounds=options.rounds,
                )
                run(ours.close())
                run(stdlib.close())
            met &= comparison.report(at_most=CLAIM, unit="µs")
    return 0 if met else 1


if __name__ == "__main__":
    keep("keepalive")
    raise SystemExit(_results.run("keepalive", main))
